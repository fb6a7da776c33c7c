"""The layout of an image set on disk."""

import numpy as np
import pytest

from stages.pipeline.errors import UserError
from stages.pipeline.image_set import create_image_set, open_images


def _small(directory):
    with create_image_set(directory, "shapes", ("a", "b")) as writer:
        for split in ("train", "test", "unlabeled"):
            writer.create(split, (4, 8, 8, 3))[:] = 7
        writer.add("train_labels", np.arange(4) % 2)
        writer.add("test_labels", np.arange(4) % 2)


def test_create_image_set_keeps_old_set_on_failure(tmp_path):
    _small(tmp_path / "images")

    def fail():
        with create_image_set(tmp_path / "images", "shapes", ()) as writer:
            writer.add("train", np.zeros(3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert len(open_images(tmp_path / "images").train) == 4


def test_create_image_set_keeps_other_files(tmp_path):
    _small(tmp_path / "images")
    (tmp_path / "images" / "cat.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"cat\.jpg is none of the pipeline's files and would be lost"):
        _small(tmp_path / "images")
    assert (tmp_path / "images" / "cat.jpg").read_bytes() == b"mine"
    assert open_images(tmp_path / "images").folds is None


def test_open_images_names_damaged_file(tmp_path):
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
