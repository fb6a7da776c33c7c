"""Images of one's own, of any size and mode.

They lie in `train/<class>/*`, `test/<class>/*` and `unlabeled/**`, or anywhere in a folder with `labels.csv`.
"""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.images.sources.copies import FileCopy, ImageFile, copies_table, copy_sentences, find_copies
from stages.images.sources.labels import read_labels
from stages.images.sources.listing import (
    NAMED_BROKEN,
    LeftOut,
    image_files,
    left_out_sentences,
    listed,
    name_below,
    printable,
    read_chunks,
)
from stages.pipeline.errors import UserError
from stages.pipeline.image_set import SET_ASIDE, ImageSetWriter, create_image_set
from stages.pipeline.layout import LABELED, LABELS, image_places

_CHUNK = 512
_BLACK_BELOW = 10
_LAYOUT = f"dataset.path is a folder of images, with {LABELS}, or with train/<class>/ and perhaps test/<class>/"
_NO_LABELS = (
    "no image has a label yet: the pipeline runs as far as `suggest`, which makes a page to label on; if the images "
    "lie in folders of classes already, move those into train/"
)

ClassFiles = dict[str, list[Path]]
Splits = dict[str, list[tuple[Path, int]]]


class FolderReport(NamedTuple):
    """What is to be said of a folder that was read.

    Attributes:
        notes: Sentences about what was drawn or left out, looks wrong, or is there twice.
        left_out: Number of files that were left out, by reason.
        copies: Table of copies; see `copies_table`.
    """

    notes: list[str]
    left_out: dict[str, int]
    copies: pd.DataFrame


def read_folder(
    path: str | Path,
    size: int,
    directory: str | Path,
    *,
    test_share: float = 0.2,
    test_images: int = 60,
    skip_broken: bool = False,
    leave_out_copies: bool = True,
) -> FolderReport:
    """Create an image set from a folder of images.

    Linked folders are followed once, hidden files and folders are ignored; for images see `read_image`. Without test
    images, some of the labelled images are drawn for testing, by their names. Images that a table labels for training
    stay among the unlabelled ones, so that pretraining does not change with every label. Without unlabelled images, the
    training images stand in for them. A table may set images aside, for testing but without a class: they are not used
    before they have one. Without any label, some are set aside by their names, so that pretraining need not be repeated
    once they are labelled.

    Args:
        path: Folder with `train/<class>/` and perhaps `test/<class>/` and `unlabeled/`, or with images at any depth.
        size: Height and width of the images in the image set in pixels.
        directory: Directory of the image set.
        test_share: Share of the labelled images of each class, in 0..1, that is drawn for testing.
        test_images: Number of images that are set aside if there is no label; at most a quarter of them.
        skip_broken: Whether to leave out images that cannot be read.
        leave_out_copies: Whether to leave out copies of test images.

    Returns:
        What was drawn or left out, looks wrong, or is there twice.

    Raises:
        UserError: A class has no images, the table of labels is wrong (see `read_labels`), or images are broken.
    """
    root, left_out = Path(path), defaultdict[str, list[Path]](list)
    classes, found, notes = _find_splits(root, test_share, test_images, left_out)

    with create_image_set(directory, "folder", classes) as writer:
        broken = _read_splits(found, writer, size)
        causes = list(dict.fromkeys(broken.values()))
        if causes and not skip_broken:
            raise UserError(
                f"{listed(causes, NAMED_BROKEN)}: repair or remove them, or set dataset.skip_broken to true"
            )
        _leave_out(broken, found, classes, writer)
        copies = _find_copies(found, classes, writer, leave_out=leave_out_copies)
        _leave_out({copy.file.path for copy in copies if copy.is_left_out}, found, classes, writer)

        for split, files in found.items():
            writer.files[split] = [name_below(file, root) for file, _ in files]
        for split in LABELED:
            writer.add(f"{split}_labels", np.array([number for _, number in found[split]], np.int64))
        writer.remove(SET_ASIDE)
        found.pop(SET_ASIDE)
        dark = [split for split in found if _is_black(writer.directory / f"{split}.npy")]

    notes += left_out_sentences(left_out, causes) + copy_sentences(copies, root)
    notes += [f"all images of {split} are nearly black: check how their values are stored" for split in dark]
    counts = {why: len(paths) for why, paths in left_out.items() if paths} | ({"broken": len(causes)} if causes else {})
    return FolderReport(notes, counts, copies_table(copies, root))


def _find_splits(
    root: Path, test_share: float, test_images: int, left_out: LeftOut
) -> tuple[tuple[str, ...], Splits, list[str]]:
    """Return the classes, the files of each split and those set aside with their class numbers, and what to say."""
    train, test, unlabeled, aside = _find_files(root, left_out)
    classes, notes = tuple(sorted({*train, *test})), list[str]()
    if not classes:
        aside = aside or _draw_aside(unlabeled, root, test_images)
        notes.append(_NO_LABELS)
    elif len(classes) < 2:
        raise UserError(f"{printable(str(root))} has labels of 1 class, {classes[0]!r}: at least two are needed")
    elif not test and aside:
        raise UserError(
            f"{printable(str(root))}: {len(aside):,} images are set aside for testing, but none has a class: label "
            f"some on plots/label.html, or remove their rows from {LABELS}"
        )
    elif not test:
        test = _draw_test(train, root, test_share)
        drawn, labeled = (sum(map(len, split.values())) for split in (test, train))
        notes.append(
            f"{drawn:,} of {labeled:,} labelled images were drawn for testing, by their names, since there is no test "
            "split"
        )

    tested = {_identity(file) for files in (*test.values(), aside) for file in files}
    train = {name: [file for file in files if _identity(file) not in tested] for name, files in train.items()}
    unlabeled = [file for file in unlabeled if _identity(file) not in tested]
    untrained = [name for name in classes if not train.get(name)]
    if untrained:
        notes.append(f"class {untrained[0]!r} has test images, but none to train on: the pipeline stops at `label`")
    if not unlabeled:
        unlabeled = [file for files in train.values() for file in files]
        notes.append("there are no unlabelled images: the training images are used as such, too")
    found = {
        "train": _flat(train, classes),
        "test": _flat(test, classes),
        SET_ASIDE: [(file, 0) for file in aside],
        "unlabeled": [(file, 0) for file in unlabeled],
    }
    return classes, found, notes


class _Files(NamedTuple):
    """Files for training and for testing by class, those that need no label, and those set aside for testing."""

    train: ClassFiles
    test: ClassFiles
    unlabeled: list[Path]
    aside: list[Path]


def _find_files(root: Path, left_out: LeftOut) -> _Files:
    """Find the files of each kind.

    A table of labels adds to what the directories say; rows without a split are for training. What it names needs no
    label either, unless it is for testing.
    """
    if not root.is_dir():
        raise UserError(f"{printable(str(root))} is not there: {_LAYOUT}")
    has_table = (root / LABELS).is_file()
    train, test = ({} if not (root / split).is_dir() else _find_classes(root / split, left_out) for split in LABELED)
    if test and not train and not has_table:
        raise UserError(f"{root / 'train'} is not there: {_LAYOUT}")
    places = [place for place in image_places(root) if place.name not in LABELED or place == root]
    unlabeled = _find_images(places, left_out) if places else []
    if not has_table:
        return _Files(train, test, unlabeled, [])

    for paths in left_out.values():
        paths[:] = [path for path in paths if path != root / LABELS]
    rows, aside = read_labels(root, unlabeled), list[Path]()
    for path, row in rows.items():
        if row.label:
            (test if row.split == "test" else train).setdefault(row.label, []).append(path)
        elif row.split == "test":
            aside.append(path)
    rest = [path for path in unlabeled if path not in rows or rows[path].split != "test"]
    return _Files(train, test, rest, aside)


def _identity(file: Path) -> tuple[int, int]:
    """Return what a file shares with links to it."""
    status = file.stat()
    return status.st_dev, status.st_ino


def _draw_test(labeled: ClassFiles, root: Path, share: float) -> ClassFiles:
    """Draw test files of each class: those with a lot below the share, but at least one, and not all.

    Raises:
        UserError: A class has a single file.
    """
    test = {}
    for name, files in labeled.items():
        if len(files) < 2:
            raise UserError(
                f"class {name!r} has a single labelled image, {printable(str(files[0]))}: label another one, since one "
                "is needed for training and one for testing"
            )
        lots = {file: _lot(file.relative_to(root)) for file in files}
        drawn = sum(lot < share for lot in lots.values())
        test[name] = sorted(files, key=lambda file: lots[file])[: min(max(drawn, 1), len(files) - 1)]
    return test


def _draw_aside(files: list[Path], root: Path, count: int) -> list[Path]:
    """Draw files for testing whose label is not known yet, at most a quarter of all."""
    return sorted(files, key=lambda file: _lot(file.relative_to(root)))[: min(count, len(files) // 4)]


def _lot(path: Path) -> float:
    """Return a number in 0..1 that a path alone determines, evenly spread over paths."""
    name = unicodedata.normalize("NFC", printable(path.as_posix()))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64


def _find_classes(split: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Return the image files of each class of a split, classes and files in the order of their names.

    Class names are in Unicode's composed form, whatever form the file system has, and read as Latin-1 if they are not
    UTF-8. Folders whose names then are the same are one class.
    """
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
    skipped: LeftOut = defaultdict(list)
    found: list[Path] = []
    for directory in directories:
        found += image_files(directory, skipped)

    if not found:
        reasons = ", ".join(f"{len(paths):,} {why}" for why, paths in skipped.items())
        raise UserError(
            f"{printable(str(directories[0]))} holds no images that can be read{f' ({reasons})' if reasons else ''}: "
            "add some, or remove the directory if it is a class"
        )
    for why, paths in skipped.items():
        left_out[why] += paths
    return sorted(found)


def _flat(found: dict[str, list[Path]], classes: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return every file with its class number, in the order of classes and of names."""
    return [(file, classes.index(name)) for name in sorted(found) for file in sorted(found[name])]


def _read_splits(found: Splits, writer: ImageSetWriter, size: int) -> dict[Path, str]:
    """Read all image files into the arrays of their splits, and return why a file cannot be read, where it cannot."""
    broken: dict[Path, str] = {}
    for split, files in found.items():
        array, position = writer.create(split, (len(files), size, size, 3)), 0
        for chunk in read_chunks([file for file, _ in files], size, f"read {split}"):
            array[position : position + len(chunk.files)] = chunk.images
            position += len(chunk.files)
            broken |= chunk.broken
    return broken


def _leave_out(files: Container[Path], found: Splits, classes: tuple[str, ...], writer: ImageSetWriter) -> None:
    """Take files out of the splits and of their arrays.

    Raises:
        UserError: Nothing is left of a split, or of a class for training.
    """
    for split, entries in found.items():
        rows = [row for row, (file, _) in enumerate(entries) if file not in files]
        if len(rows) == len(entries):
            continue
        before, after = ({number for _, number in part} for part in (entries, [entries[row] for row in rows]))
        entries[:] = [entries[row] for row in rows]
        gone = sorted(before - after)
        if (gone and split == "train") or (not entries and split != SET_ASIDE):
            what = f"class {classes[gone[0]]!r} of {split}" if gone and split == "train" else split
            raise UserError(f"no image of {what} is left that can be read and is no copy of a test image: add some")
        writer.keep(split, rows)


def _find_copies(found: Splits, classes: tuple[str, ...], writer: ImageSetWriter, *, leave_out: bool) -> list[FileCopy]:
    """Find copies among all images that were read; those to test with come first, so that others are copies of them."""
    places: dict[Path, tuple[str, int]] = {}
    for split in ("test", SET_ASIDE, "train", "unlabeled"):
        for row, (file, _) in enumerate(found[split]):
            places.setdefault(file, (split, row))
    arrays = {split: np.load(writer.directory / f"{split}.npy", mmap_mode="r") for split in found}
    copies = find_copies([arrays[split][row] for split, row in places.values()])

    def described(file: Path) -> ImageFile:
        split, row = places[file]
        return ImageFile(file, split, classes[found[split][row][1]] if split in LABELED else "")

    files = [described(file) for file in places]
    pairs = [(files[copy.number], files[copy.original], copy.is_exact) for copy in copies]
    testing = ("test", SET_ASIDE)
    return [
        FileCopy(file, original, is_exact, leave_out and original.split in testing and file.split not in testing)
        for file, original, is_exact in pairs
    ]


def _is_black(path: Path) -> bool:
    """Return whether every image of an array of them is nearly black."""
    images = np.load(path, mmap_mode="r")
    return len(images) > 0 and all(
        images[start : start + _CHUNK].max() < _BLACK_BELOW for start in range(0, len(images), _CHUNK)
    )
