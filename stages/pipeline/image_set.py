"""One layout on disk for every image set: memory-mapped bytes, labels, and a description with checksums.

train.npy, test.npy, unlabeled.npy    (N, H, W, 3) uint8, RGB
train_labels.npy, test_labels.npy     (N,) int64, indices into the classes
folds.npy                             (F, M) int64, predefined folds of training images; (0, 0) where there are none
files.json                            file of each image of a split, relative to the folder that they came from, and
                                      of those that are set aside until they have a label to test with
dataset.json                          source, classes, sizes, SHA-256 of each array
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.pipeline.errors import UserError
from stages.pipeline.files import (
    Scalar,
    checksum,
    map_array,
    read_json,
    replace_directory,
    require,
    require_space,
    write_array,
    write_json,
)
from stages.pipeline.progress import progress

SET_ASIDE = "set_aside"
_ARRAYS = ("train", "test", "unlabeled", "train_labels", "test_labels", "folds")
_CHUNK = 1024
_FILES = ("dataset.json", "files.json", *(f"{name}.npy" for name in _ARRAYS))


@dataclass(frozen=True)
class ImageSet:
    """An image set on disk, whose arrays are memory-mapped when they are first read.

    Attributes:
        directory: Directory that holds the files.
        source: Name of the source: `shapes`, `stl10` or `folder`.
        classes: Names of the classes, in the order of their numbers.
        shapes: Shape of each array, by name.
        checksums: SHA-256 of each file, by file name.
    """

    directory: Path
    source: str
    classes: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    checksums: dict[str, str]

    @cached_property
    def train(self) -> NDArray[np.uint8]:
        """Training images, (N, H, W, 3)."""
        return self._open("train", np.uint8)

    @cached_property
    def test(self) -> NDArray[np.uint8]:
        """Test images, (N, H, W, 3)."""
        return self._open("test", np.uint8)

    @cached_property
    def unlabeled(self) -> NDArray[np.uint8]:
        """Unlabelled images, (N, H, W, 3)."""
        return self._open("unlabeled", np.uint8)

    @cached_property
    def train_labels(self) -> NDArray[np.int64]:
        """Class numbers of the training images, (N,)."""
        return self._open("train_labels", np.int64)

    @cached_property
    def test_labels(self) -> NDArray[np.int64]:
        """Class numbers of the test images, (N,)."""
        return self._open("test_labels", np.int64)

    @cached_property
    def folds(self) -> NDArray[np.int64] | None:
        """Predefined folds as indices of training images, (F, M), if the source has them."""
        return self._open("folds", np.int64) if self.shapes["folds"][0] else None

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """File of each image of `train`, `test` and `unlabeled`, and those `set_aside`; empty without files."""
        return read_json(self.directory / "files.json", "download", dict[str, list[str]])

    def _open(self, name: str, dtype: type[Scalar]) -> NDArray[Scalar]:
        path = self.directory / f"{name}.npy"
        try:
            array = map_array(path, dtype)
        except ValueError as error:
            raise UserError(f"{path} cannot be read ({error}): delete it and run `dvc repro download`") from error
        if array.shape != self.shapes[name]:
            raise UserError(
                f"{path} holds {array.shape}, dataset.json says {self.shapes[name]}: run `dvc repro download` again"
            )
        return array


def open_images(directory: str | Path = "data/images") -> ImageSet:
    """Open the image set that `download` produced.

    Raises:
        UserError: The image set is missing, or its description is damaged.
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
    """Writes the arrays of a new image set: `create` one and fill it, or `add` one that is complete.

    Attributes:
        directory: Directory that the arrays are written to.
        shapes: Shape of each array so far, by name.
        files: File of each image, by split; filled by sources that read one file an image.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.shapes: dict[str, list[int]] = {}
        self.files: dict[str, list[str]] = {}

    def create(self, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Create `<name>.npy` and return it memory-mapped, to be filled in place; it is never in memory as a whole.

        Raises:
            UserError: The disk has no room for it. Its blocks are allocated at once, since a mapped write cannot
                report a full disk.
        """
        require_space(self.directory, int(np.prod(shape)), f"{name}.npy")
        self.shapes[name] = list(shape)
        path = self.directory / f"{name}.npy"
        array: NDArray[np.uint8] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array

    def keep(self, name: str, rows: Sequence[int]) -> None:
        """Reduce `<name>.npy`, which is complete, to some of its rows."""
        path, before = (self.directory / f"{part}{name}.npy" for part in ("", "."))
        path.rename(before)
        images = np.load(before, mmap_mode="r")
        kept = self.create(name, (len(rows), *images.shape[1:]))
        for start in range(0, len(rows), _CHUNK):
            kept[start : start + _CHUNK] = images[rows[start : start + _CHUNK]]
        before.unlink()

    def remove(self, name: str) -> None:
        """Remove `<name>.npy` again."""
        del self.shapes[name]
        (self.directory / f"{name}.npy").unlink()

    def add(self, name: str, array: NDArray[np.generic]) -> None:
        """Write `array` as `<name>.npy`."""
        self.shapes[name] = list(array.shape)
        write_array(self.directory / f"{name}.npy", np.ascontiguousarray(array))


@contextmanager
def create_image_set(directory: str | Path, source: str, classes: Sequence[str]) -> Iterator[ImageSetWriter]:
    """Create an image set that is complete when the block succeeds and as it was before when it fails.

    Args:
        directory: Directory of the image set.
        source: Name of the source.
        classes: Names of the classes; may still be filled within the block.

    Yields:
        A writer, by which the block writes `train`, `test`, `unlabeled`, `train_labels`, `test_labels` and, where
        there are any, `folds`.

    Raises:
        UserError: The directory holds something else, which would be lost.
    """
    with replace_directory(directory, "|".join(map(re.escape, _FILES))) as temporary:
        writer = ImageSetWriter(temporary)
        yield writer
        if "folds" not in writer.shapes:
            writer.add("folds", np.empty((0, 0), np.int64))
        write_json(temporary / "files.json", writer.files)
        names = sorted(writer.shapes)
        files = {
            f"{name}.npy": {
                "shape": writer.shapes[name],
                "sha256": checksum(temporary / f"{name}.npy", "sha256"),
            }
            for name in progress(names, title="checksums", unit="file")
        }
        write_json(temporary / "dataset.json", {"source": source, "classes": list(classes), "files": files})
