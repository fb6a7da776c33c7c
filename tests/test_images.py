"""The generated images, the layout on disk, and files that are whole or absent."""

import json

import numpy as np
import pytest

from stages.files import UserError, checksum, read_array, read_json, replacing, require
from stages.images.layout import new_images, open_images
from stages.images.shapes import CLASSES, OUTLINES, TEXTURES, draw_shapes, make_shapes


def test_each_outline_and_each_texture_occurs_in_two_classes():
    assert len(set(CLASSES)) == 10
    for part in (*OUTLINES, *TEXTURES):
        assert sum(part in name for name in CLASSES) == 2


def test_shapes_follow_the_seed():
    labels = np.arange(10)
    first, again, other = (draw_shapes(labels, 32, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (10, 32, 32, 3)


def test_shapes_fill_the_layout(tmp_path):
    make_shapes(tmp_path / "images", 16, np.random.default_rng(0))
    images = open_images(tmp_path / "images")
    assert [len(split) for split in (images.train, images.test, images.unlabeled)] == [250, 2000, 5000]
    assert set(np.bincount(images.train_labels)) == {25}
    assert set(np.bincount(images.test_labels)) == {200}
    described = json.loads((tmp_path / "images" / "dataset.json").read_text())
    for name, file in described["files"].items():
        assert file["sha256"] == checksum(tmp_path / "images" / name, "sha256")
    assert isinstance(images.train, np.memmap)


def _small(directory):
    with new_images(directory, "shapes", ("a", "b")) as writer:
        for split in ("train", "test", "unlabeled"):
            writer.create(split, (4, 8, 8, 3))[:] = 7
            writer.add(f"{split}_labels", np.arange(4) % 2)


def test_a_failure_leaves_what_was_there(tmp_path):
    _small(tmp_path / "images")

    def fail():
        with new_images(tmp_path / "images", "shapes", ()) as writer:
            writer.add("train", np.zeros(3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert len(open_images(tmp_path / "images").train) == 4


def test_a_damaged_file_is_named(tmp_path):
    _small(tmp_path / "images")
    path = tmp_path / "images" / "train.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"train\.npy cannot be read.*dvc repro download"):
        _ = open_images(tmp_path / "images").train
    np.save(path, np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match=r"dataset\.json says"):
        _ = open_images(tmp_path / "images").train
    (tmp_path / "images" / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match=r"dataset\.json is damaged"):
        open_images(tmp_path / "images")


def test_replacing_a_file_and_a_directory(tmp_path):
    target = tmp_path / "deep" / "out"
    with replacing(target) as aside:
        aside.write_text("one")

    def fail():
        with replacing(target) as aside:
            aside.write_text("two")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "one"
    with replacing(tmp_path / "deep") as aside:
        aside.mkdir()
        (aside / "new").write_text("three")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "new"]


def test_inputs_are_there_and_readable(tmp_path):
    with pytest.raises(UserError, match=r"x\.npy is missing: run `dvc repro label`"):
        require(tmp_path / "x.npy", "label")
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(UserError, match="is damaged"):
        read_array(tmp_path / "x.npy", "label")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_json(tmp_path / "x.json", "label")
