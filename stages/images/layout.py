"""One layout on disk for every image set: memory-mapped bytes, labels, and a description with checksums.

train.npy, test.npy, unlabeled.npy    (N, H, W, 3) uint8, RGB
train_labels.npy, test_labels.npy     (N,) int64, indices into the classes
folds.npy                             (F, M) int64, predefined folds of training images, where the source has them
dataset.json                          source, classes, sizes, SHA-256 of each file
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.files import UserError, checksum, map_array, replacing, require, require_space, write_array, write_json


@dataclass(frozen=True)
class ImageSet:
    """An image set on disk; arrays are opened when first asked for, and mapped rather than read."""

    directory: Path
    source: str
    classes: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    checksums: dict[str, str]

    @cached_property
    def train(self) -> NDArray[np.uint8]:
        return self._open("train")

    @cached_property
    def test(self) -> NDArray[np.uint8]:
        return self._open("test")

    @cached_property
    def unlabeled(self) -> NDArray[np.uint8]:
        return self._open("unlabeled")

    @cached_property
    def train_labels(self) -> NDArray[np.int64]:
        return self._open("train_labels")

    @cached_property
    def test_labels(self) -> NDArray[np.int64]:
        return self._open("test_labels")

    @cached_property
    def folds(self) -> NDArray[np.int64] | None:
        return self._open("folds") if "folds" in self.shapes else None

    def _open(self, name: str) -> NDArray:
        path = self.directory / f"{name}.npy"
        try:
            array = map_array(path)
        except ValueError as error:
            raise UserError(f"{path} cannot be read ({error}): delete it and run `dvc repro download`") from error
        if array.shape != self.shapes[name]:
            raise UserError(
                f"{path} holds {array.shape}, dataset.json says {self.shapes[name]}: run `dvc repro download` again"
            )
        return array


def open_images(directory: str | Path = "data/images") -> ImageSet:
    """Open the image set that `download` made.

    Raises:
        UserError: it is not there, or its description is damaged.
    """
    path = require(Path(directory) / "dataset.json", "download")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shapes = {name.removesuffix(".npy"): tuple(file["shape"]) for name, file in content["files"].items()}
        checksums = {name: file["sha256"] for name, file in content["files"].items()}
        return ImageSet(Path(directory), content["source"], tuple(content["classes"]), shapes, checksums)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}): run `dvc repro download` again") from error


class ImageSetWriter:
    """Arrays of an image set in the making; `create` one, fill it, and go on to the next."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shapes: dict[str, list[int]] = {}

    def create(self, name: str, shape: tuple[int, ...], dtype: type = np.uint8) -> np.memmap:
        """A new array on disk, `<name>.npy`, to be filled in place; it need never be in memory as a whole.

        Raises:
            UserError: there is no room for it. Room is taken at once, since a mapped write cannot report that it is missing.
        """
        require_space(self.directory, int(np.prod(shape)) * np.dtype(dtype).itemsize, f"{name}.npy")
        self.shapes[name] = list(shape)
        path = self.directory / f"{name}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array

    def add(self, name: str, array: NDArray) -> None:
        """Write `array` as `<name>.npy`."""
        self.shapes[name] = list(array.shape)
        write_array(self.directory / f"{name}.npy", np.ascontiguousarray(array))


@contextmanager
def new_images(directory: str | Path, source: str, classes: tuple[str, ...]) -> Iterator[ImageSetWriter]:
    """Make an image set at `directory`: whole when the block succeeds, absent when it fails.

    Yields:
        a writer; the block creates `train`, `test`, `unlabeled`, `train_labels`, `test_labels` and perhaps `folds`.
    """
    with replacing(directory) as aside:
        aside.mkdir()
        writer = ImageSetWriter(aside)
        yield writer
        write_json(
            aside / "dataset.json",
            {
                "source": source,
                "classes": list(classes),
                "files": {
                    f"{name}.npy": {"shape": shape, "sha256": checksum(aside / f"{name}.npy", "sha256")}
                    for name, shape in sorted(writer.shapes.items())
                },
            },
        )
