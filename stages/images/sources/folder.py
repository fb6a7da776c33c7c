"""Images of one's own: `train/<class>/*`, `test/<class>/*` and `unlabeled/**`, of any size and mode."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.images.sources.decoding import HEIF_ENDINGS, read_image, readable_endings
from stages.pipeline.errors import UserError
from stages.pipeline.image_set import ImageSetWriter, create_image_set
from stages.pipeline.progress import progress

_CHUNK = 512
_NAMED_BROKEN, _NAMED_LEFT_OUT = 20, 10
_BLACK_BELOW = 10
_SPLITS = "dataset.path needs train/<class>/, test/<class>/ and unlabeled/"

LeftOut = dict[str, list[Path]]


def read_folder(path: str | Path, size: int, directory: str | Path, *, skip_broken: bool = False) -> list[str]:
    """Create an image set from a folder of images.

    Every image is turned upright, laid on white where it is transparent, cropped to its central square and resized.
    Linked folders are followed once, hidden files and folders are ignored.

    Args:
        path: Folder that holds `train/<class>/`, `test/<class>/` and `unlabeled/`.
        size: Height and width of the images in the image set in pixels.
        directory: Directory of the image set.
        skip_broken: Whether to leave out images that cannot be read.

    Returns:
        Sentences about what was left out, or looks wrong.

    Raises:
        UserError: A split is missing, a class has no images, a test class does not occur in training, or images are
            broken; all of those are found before the line is made.
    """
    root, left_out = Path(path), defaultdict[str, list[Path]](list)
    train, test = _find_classes(root / "train", left_out), _find_classes(root / "test", left_out)
    classes = tuple(train)
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise UserError(f"{root / 'test' / unknown[0]}: class {unknown[0]!r} has no images in {root / 'train'}")
    found = {
        "train": _flat(train, classes),
        "test": _flat(test, classes),
        "unlabeled": [(file, 0) for file in _find_images([root / "unlabeled"], left_out)],
    }

    with create_image_set(directory, "folder", classes) as writer:
        broken = {split: _read_all(files, writer, split, size) for split, files in found.items()}
        causes = [cause for split in broken.values() for cause in split.values()]
        if causes and not skip_broken:
            raise UserError(
                f"{_listed(causes, _NAMED_BROKEN)}: repair or remove them, or set dataset.skip_broken to true"
            )
        for split, files in found.items():
            if broken[split]:
                files[:] = [(file, number) for file, number in files if file not in broken[split]]
                _require_all_classes(files, classes, split)
                _read_all(files, writer, split, size)
            if split != "unlabeled":
                writer.add(f"{split}_labels", np.array([number for _, number in files], np.int64))
        dark = [split for split in found if _is_black(writer.directory / f"{split}.npy")]

    notes = [f"{len(paths):,} left out, {why}: {_listed(paths, _NAMED_LEFT_OUT)}" for why, paths in left_out.items()]
    notes += [f"{len(causes):,} left out: {_listed(causes, _NAMED_LEFT_OUT)}"] if causes else []
    return notes + [f"all images of {split} are nearly black: check how their values are stored" for split in dark]


def _listed(entries: Sequence[Path | str], most: int) -> str:
    """Return the first entries, and the number of the others."""
    more = f" and {len(entries) - most:,} more" if len(entries) > most else ""
    return "; ".join(_shown(str(entry)) for entry in entries[:most]) + more


def _shown(text: str) -> str:
    """Return a text that can be printed although a file name in it is not UTF-8."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _find_classes(split: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Return the image files of each class of a split, classes and files in the order of their names.

    Class names are in Unicode's composed form, whatever form the file system has, and read as Latin-1 if they are not
    UTF-8. Folders whose names then are the same are one class.
    """
    if not split.is_dir():
        raise UserError(f"{split} is not there: {_SPLITS}")
    folders = defaultdict[str, list[Path]](list)
    for child in sorted(split.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            folders[_class_name(child)].append(child)
    if len(folders) < 2:
        raise UserError(f"{split} holds {len(folders)} class directories: at least two are needed")
    return {name: _find_images(folders[name], left_out) for name in sorted(folders)}


def _class_name(folder: Path) -> str:
    name = os.fsencode(folder.name)
    try:
        return unicodedata.normalize("NFC", name.decode("utf-8"))
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _find_images(directories: list[Path], left_out: LeftOut) -> list[Path]:
    """Return all image files below some directories, sorted, and count what else is there.

    Args:
        directories: Directories to search.
        left_out: Files that are left out, by reason; this function adds to it.
    """
    found: list[Path] = []
    skipped: LeftOut = defaultdict(list)
    endings = readable_endings()
    for directory in directories:
        if not directory.is_dir():
            raise UserError(f"{directory} is not there: {_SPLITS}")
        for path in _files_below(directory, skipped, set()):
            ending = path.suffix.lower()
            if ending in endings:
                found.append(path)
            elif ending in HEIF_ENDINGS:
                skipped["HEIC, which needs `pip install pillow-heif`"].append(path)
            else:
                skipped["no image by the ending of the name"].append(path)

    if not found:
        reasons = ", ".join(f"{len(paths):,} {why}" for why, paths in skipped.items())
        raise UserError(
            f"{_shown(str(directories[0]))} holds no images that can be read{f' ({reasons})' if reasons else ''}: "
            "add some, or remove the directory if it is a class"
        )
    for why, paths in skipped.items():
        left_out[why] += paths
    return sorted(found)


def _files_below(directory: Path, skipped: LeftOut, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files below a directory that are not hidden; a linked directory is followed once."""
    status = directory.stat()
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    try:
        children = sorted(directory.iterdir())
    except PermissionError:
        skipped["folders that may not be read"].append(directory)
        return
    for path in children:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files_below(path, skipped, visited)
        elif path.is_file():
            yield path
        else:
            skipped["links that lead nowhere, or no files"].append(path)


def _flat(found: dict[str, list[Path]], classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return every file with its class number."""
    return [(file, classes.index(name)) for name, files in found.items() for file in files]


def _require_all_classes(files: list[tuple[Path, int]], classes: tuple[str, ...], split: str) -> None:
    present = {number for _, number in files}
    absent = [name for number, name in enumerate(classes) if number not in present]
    if not files or (split == "train" and absent):
        what = f"class {absent[0]!r} of {split}" if files else split
        raise UserError(f"no image of {what} can be read: repair or add some")


def _read_all(files: list[tuple[Path, int]], writer: ImageSetWriter, split: str, size: int) -> dict[Path, str]:
    """Read image files into the array of a split, a chunk at a time, by as many threads as there are cores.

    Returns:
        Why a file cannot be read, for each that cannot.
    """
    broken: dict[Path, str] = {}

    def read(path: Path) -> NDArray[np.uint8]:
        try:
            return read_image(path, size)
        except UserError as error:
            broken[path] = str(error)
            return np.zeros((size, size, 3), np.uint8)

    array = writer.create(split, (len(files), size, size, 3))
    bar = progress(title=f"read {split}", unit="img", total=len(files))
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _CHUNK):
            chunk = [file for file, _ in files[start : start + _CHUNK]]
            array[start : start + len(chunk)] = list(pool.map(read, chunk))
            bar.update(len(chunk))
    return {path: broken[path] for path, _ in files if path in broken}


def _is_black(path: Path) -> bool:
    """Return whether every image of an array of them is nearly black."""
    images = np.load(path, mmap_mode="r")
    return all(images[start : start + _CHUNK].max() < _BLACK_BELOW for start in range(0, len(images), _CHUNK))
