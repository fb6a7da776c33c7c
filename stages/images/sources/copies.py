"""Copies among images: the same pixels, or an image that was saved again in another quality or size."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stages.images.sources.listing import NAMED_LEFT_OUT, listed, name_below
from stages.pipeline.progress import progress

# Bits of 64 in which the perceptual hashes of two copies may differ; the mean difference of their thumbnails, in levels
# of 0..255 and in standard deviations within a thumbnail; and the largest difference of a pixel of these, in levels.
#     300 photographs of 96 pixels, saved again as JPEG of quality 30, as WebP of quality 40 or resized to 48, 70 or 200
#     pixels, differed by at most 4 bits, 3.6 levels and, but for one, 15 levels of a pixel.
#     Of 12,710 photographs, the pairs within 10 bits that are no copies differed by at least 15 levels.
#     An object of 10 pixels before a fixed background made a difference of at least 25 levels of a pixel.
_MOST_BITS, _MOST_LEVELS, _MOST_DEVIATIONS, _MOST_PIXEL_LEVELS = 6, 4.0, 0.25, 20.0
_THUMBNAIL_PIXELS = 16


class Copy(NamedTuple):
    """An image of which there is an earlier one.

    Attributes:
        number: Number of the image.
        original: Number of the earliest one that it, or an image that it is like, is a copy of.
        is_exact: Whether there is an earlier image with the same pixels.
    """

    number: int
    original: int
    is_exact: bool


def find_copies(images: Sequence[NDArray[np.uint8]]) -> list[Copy]:
    """Find images that are copies of earlier ones: equal, or alike by their perceptual hash (pHash) and a thumbnail.

    An image that is mirrored or cropped is not found, and one without contrast is a copy only if its pixels are equal.

    Args:
        images: N images, each (H, W, 3) RGB bytes.

    Returns:
        The copies, in the order of their numbers in 0..N - 1.
    """
    hashes = np.empty(len(images), np.uint64)
    thumbnails = np.empty((len(images), _THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS, 3), np.uint8)
    originals, copies = np.arange(len(images)), list[Copy]()
    for number, pixels in enumerate(progress(images, title="copies", unit="img")):
        image = Image.fromarray(pixels)
        hashes[number] = int(str(imagehash.phash(image)), 16)
        thumbnails[number] = np.asarray(image.resize((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS), Image.Resampling.BOX))

        bits = np.bitwise_count(hashes[:number] ^ hashes[number])
        candidates = np.flatnonzero(bits <= _MOST_BITS)
        equal = next((other for other in candidates if np.array_equal(images[int(other)], pixels)), None)
        first = _first_alike(thumbnails, number, candidates) if equal is None else equal
        if first is not None:
            originals[number] = originals[first]
            copies.append(Copy(number, int(originals[first]), equal is not None))
    return copies


def _first_alike(thumbnails: NDArray[np.uint8], number: int, candidates: NDArray[np.int64]) -> np.int64 | None:
    """Return the first of some candidates whose thumbnail is like that of an image."""
    thumbnail = thumbnails[number].astype(np.float32)
    differences = np.abs(thumbnails[candidates] - thumbnail).mean(3)
    most = min(_MOST_LEVELS, _MOST_DEVIATIONS * float(thumbnail.std((0, 1)).mean()))
    alike = (differences.mean((1, 2)) <= most) & (differences.max((1, 2), initial=0) <= _MOST_PIXEL_LEVELS)
    return candidates[alike][0] if alike.any() else None


class ImageFile(NamedTuple):
    """An image file, the split that it is in, and its class; empty if it has none."""

    path: Path
    split: str
    label: str


class FileCopy(NamedTuple):
    """An image file of which there is an earlier copy.

    Attributes:
        file: The image.
        original: The earlier one; those for testing are the earliest, those without a label the latest.
        is_exact: Whether an earlier one has the same pixels.
        is_left_out: Whether it is left out, since it would be trained on and tested with.
    """

    file: ImageFile
    original: ImageFile
    is_exact: bool
    is_left_out: bool

    @property
    def has_other_class(self) -> bool:
        """Whether both have a class, and not the same."""
        return bool(self.file.label and self.original.label) and self.file.label != self.original.label


def copies_table(copies: Sequence[FileCopy], root: Path) -> pd.DataFrame:
    """Return one row per copy: it and its original by file, split and class, and what they have in common."""
    rows = [
        {
            "file": name_below(copy.file.path, root),
            "split": copy.file.split,
            "class": copy.file.label,
            "copy_of": name_below(copy.original.path, root),
            "copy_of_split": copy.original.split,
            "copy_of_class": copy.original.label,
            "kind": "exact" if copy.is_exact else "near",
            "left_out": copy.is_left_out,
        }
        for copy in copies
    ]
    columns = ("file", "split", "class", "copy_of", "copy_of_split", "copy_of_class", "kind", "left_out")
    return pd.DataFrame(rows, columns=columns)


def copy_sentences(copies: Sequence[FileCopy], root: Path) -> list[str]:
    """Return sentences about copies; nothing if there are none."""
    if not copies:
        return []
    pairs = {
        "left out, copies of test images": [copy for copy in copies if copy.is_left_out],
        "copies of an image with another class": [copy for copy in copies if copy.has_other_class],
    }
    exact = sum(copy.is_exact for copy in copies)
    sentences = [f"{len(copies):,} images are copies, {exact:,} of them exact: see data/copies.csv"]
    for what, found in pairs.items():
        named = [f"{name_below(copy.file.path, root)} of {name_below(copy.original.path, root)}" for copy in found]
        sentences += [f"{len(named):,} {what}: {listed(named, NAMED_LEFT_OUT)}"] if named else []
    return sentences
