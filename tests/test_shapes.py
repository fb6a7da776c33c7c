"""The generated image set."""

import json

import numpy as np
import pytest

from stages.images.sources.shapes import CLASSES, OUTLINES, TEXTURES, draw_shapes, make_shapes
from stages.pipeline.files import checksum
from stages.pipeline.image_set import open_images


def test_shapes_use_each_outline_and_texture_twice():
    assert len(set(CLASSES)) == 10
    for part in (*OUTLINES, *TEXTURES):
        assert sum(part in name for name in CLASSES) == 2


@pytest.mark.parametrize(
    "alike",
    [("disc", "square"), ("star", "cross"), ("dotted", "noisy"), ("noisy", "plain")],
    ids=lambda alike: " and ".join(alike),
)
def test_shapes_keep_apart_what_is_alike(alike):
    """Outlines that resemble each other share no texture, and no outline has two textures that do."""
    first, second = ({name.replace(part, "") for name in CLASSES if part in name} for part in alike)
    assert len(first) == len(second) == 2
    assert not first & second


def test_draw_shapes_follows_seed():
    labels = np.arange(10)
    first, again, other = (draw_shapes(labels, 32, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (10, 32, 32, 3)


def test_make_shapes_fills_image_set(tmp_path):
    make_shapes(tmp_path / "images", 16, np.random.default_rng(0))
    images = open_images(tmp_path / "images")
    assert [len(split) for split in (images.train, images.test, images.unlabeled)] == [250, 2000, 5000]
    assert set(np.bincount(images.train_labels)) == {25}
    assert set(np.bincount(images.test_labels)) == {200}
    described = json.loads((tmp_path / "images" / "dataset.json").read_text())
    for name, file in described["files"].items():
        assert file["sha256"] == checksum(tmp_path / "images" / name, "sha256")
    assert isinstance(images.train, np.memmap)
