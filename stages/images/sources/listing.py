"""Image files: which there are below directories, why others are left out, and their pixels a chunk at a time."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.images.sources.decoding import HEIF_ENDINGS, read_image, readable_endings
from stages.images.sources.walk import files_below
from stages.pipeline.errors import UserError
from stages.pipeline.progress import progress

NAMED_BROKEN, NAMED_LEFT_OUT = 20, 10
_CHUNK = 256

LeftOut = dict[str, list[Path]]


class ImageChunk(NamedTuple):
    """Consecutive image files, as pixels.

    Attributes:
        files: The n files.
        images: (n, size, size, 3) RGB bytes; black where a file cannot be read.
        broken: Why a file cannot be read, for each that cannot.
    """

    files: Sequence[Path]
    images: NDArray[np.uint8]
    broken: dict[Path, str]


def image_files(directory: Path, left_out: LeftOut) -> list[Path]:
    """Return all image files below a directory in the order of their names, and count what else is there.

    Linked directories are followed once, hidden files and directories are ignored.

    Args:
        directory: Directory to search.
        left_out: Files that are left out, by reason; this function adds to it.
    """
    endings = readable_endings()
    found: list[Path] = []
    unread: dict[str, list[str]] = {}
    for entry in files_below(str(directory), unread):
        path = Path(entry.path)
        ending = path.suffix.lower()
        if ending in endings:
            found.append(path)
        elif ending in HEIF_ENDINGS:
            left_out["HEIC, which needs `pip install pillow-heif`"].append(path)
        else:
            left_out["no image by the ending of the name"].append(path)
    for why, places in unread.items():
        left_out[why] += map(Path, places)
    return sorted(found)


def read_chunks(files: Sequence[Path], size: int, title: str) -> Iterator[ImageChunk]:
    """Read image files a chunk at a time, by as many threads as there are cores, with a progress bar.

    While the caller works on a chunk, the next one is being read; no more than these two are in memory.

    Args:
        files: Image files.
        size: Height and width of the images in pixels; see `read_image`.
        title: Text shown before the progress bar.

    Yields:
        All files, in their order.
    """

    def read(path: Path) -> NDArray[np.uint8] | UserError:
        try:
            return read_image(path, size)
        except UserError as error:
            return error

    if not files:
        return
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with progress(title=title, unit="img", total=len(files)) as bar:
            waiting = [pool.submit(read, path) for path in files[:_CHUNK]]
            for start in range(0, len(files), _CHUNK):
                upcoming = [pool.submit(read, path) for path in files[start + _CHUNK : start + 2 * _CHUNK]]
                chunk = _chunk(files[start : start + _CHUNK], waiting, size)
                waiting = upcoming
                yield chunk
                bar.update(len(chunk.files))
    finally:
        pool.shutdown(cancel_futures=True)


def _chunk(files: Sequence[Path], reading: list[Future[NDArray[np.uint8] | UserError]], size: int) -> ImageChunk:
    images, broken = np.zeros((len(files), size, size, 3), np.uint8), dict[Path, str]()
    for number, (path, future) in enumerate(zip(files, reading, strict=True)):
        result = future.result()
        if isinstance(result, UserError):
            broken[path] = str(result)
        else:
            images[number] = result
    return ImageChunk(files, images, broken)


def left_out_sentences(left_out: LeftOut, broken: Sequence[str]) -> list[str]:
    """Return sentences about files that were left out.

    Args:
        left_out: Files by reason.
        broken: Why images could not be read, a text for each of them.
    """
    sentences = [
        f"{len(paths):,} left out, {why}: {listed(paths, NAMED_LEFT_OUT)}" for why, paths in left_out.items() if paths
    ]
    return sentences + ([f"{len(broken):,} left out: {listed(broken, NAMED_LEFT_OUT)}"] if broken else [])


def listed(entries: Sequence[Path | str], most: int) -> str:
    """Return the first entries in one line, and the number of the others."""
    more = f" and {len(entries) - most:,} more" if len(entries) > most else ""
    return "; ".join(printable(str(entry)) for entry in entries[:most]) + more


def name_below(file: Path, root: Path) -> str:
    """Return the name of a file relative to a folder, in a form that can be printed."""
    return printable(file.relative_to(root).as_posix())


def printable(text: str) -> str:
    """Return a text that can be printed in one line, although a file name in it is not UTF-8 or breaks the line."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
