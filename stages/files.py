"""Files between stages: outputs are whole or absent, inputs are there and readable."""

import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class UserError(Exception):
    """What a person can mend: one line saying what is wrong, where, and what to do."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the name `path` when the block succeeds and vanishes when it fails.

    Works for a file and for a directory; whatever stood at `path` is replaced, parents are made. What was written is flushed
    before it takes the name. What a killed process left aside is removed, or given its name back, by the next one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, before = (path.with_name(f".{path.name}.{role}") for role in ("part", "old"))
    _restore(before, path)
    _remove(aside)
    try:
        yield aside
        for written in [*aside.rglob("*"), aside]:
            _flush(written)
        if path.is_dir() and not path.is_symlink():
            path.rename(before)
        aside.replace(path)
        _flush(path.parent)
    finally:
        _restore(before, path)
        _remove(aside)


def _restore(before: Path, path: Path) -> None:
    """Give a directory that was moved away its name back, or remove it where another has taken its place."""
    if before.exists() and not path.exists():
        before.rename(path)
    _remove(before)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have what was written to a file or directory reach the disk; some file systems cannot do that for directories."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content`, whole or not at all."""
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as indented JSON; keys keep their order."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def require(path: str | Path, stage: str) -> Path:
    """The path of an input that `stage` makes.

    Raises:
        UserError: it is not there.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro {stage}`, or `python -m stages.{stage}`, first")
    return path


def read_json(path: str | Path, stage: str) -> dict:
    """A JSON file that `stage` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    path = require(path, stage)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc repro {stage}` again") from error


def read_array(path: str | Path, stage: str) -> NDArray:
    """A .npy file that `stage` wrote.

    Raises:
        UserError: it is missing or damaged.
    """
    path = require(path, stage)
    try:
        return np.array(map_array(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc repro {stage}` again") from error


def map_array(path: str | Path) -> NDArray:
    """A .npy file, mapped rather than read: one that promises more than it holds is found before memory is asked for.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be opened.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # The header is parsed as Python, which fails in many ways.
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def require_space(directory: str | Path, size: int, what: str) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        directory: where it is to go; it need not be there yet.
        size: in bytes.
        what: for the message.

    Raises:
        UserError: naming both sizes.
    """
    place = Path(directory).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(
            f"{what} needs {size / 2**20:,.0f} MiB, but {place} has room for {free / 2**20:,.0f}: free some space"
        )


def write_array(path: str | Path, array: NDArray) -> None:
    """Write `array` as .npy, whole or not at all."""
    content = io.BytesIO()
    np.save(content, array)
    write_bytes(path, content.getvalue())


def checksum(path: str | Path, algorithm: str) -> str:
    """Of a file, as hexadecimal digits; the algorithm is one of hashlib's, `md5` or `sha256`."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
