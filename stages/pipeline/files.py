"""Files between stages: outputs are complete or absent, inputs are present and readable."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from stages.pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Scalar = TypeVar("Scalar", bound=np.generic)
Content = TypeVar("Content")

# Left in a directory by the Finder of macOS, and on NFS.
_OF_SYSTEMS = r"\.DS_Store|\.nfs\w+"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that takes the name `path` when the block succeeds and is removed when it fails.

    Works for files and directories. An existing file or directory at `path` is replaced, and missing parents are
    created. The content is flushed to disk before it is renamed. Whatever a killed process left behind is removed, or
    restored, by the next call.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, previous = (path.with_name(f".{path.name}.{role}") for role in ("part", "old"))
    _restore(previous, path)
    _remove(temporary)
    try:
        yield temporary
        for written in [*temporary.rglob("*"), temporary]:
            _flush(written)
        # A directory cannot replace another one in a single rename, so the old one steps aside first.
        if path.is_dir() and not path.is_symlink():
            path.rename(previous)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        _restore(previous, path)
        _remove(temporary)


@contextmanager
def replace_directory(path: str | Path, names: str) -> Iterator[Path]:
    """Yield an empty directory that takes the place of the directory `path` when the block succeeds.

    Args:
        path: The directory, which need not exist.
        names: Regular expression of the names of the files that the pipeline writes there.

    Raises:
        UserError: The directory holds something else, which would be lost.
    """
    require_no_other_files(path, names)
    with atomic_write(path) as temporary:
        temporary.mkdir()
        yield temporary
        require_no_other_files(path, names)


def require_no_other_files(directory: str | Path, names: str) -> None:
    """Refuse to replace a directory that holds anything but the pipeline's files and what a system leaves everywhere.

    Args:
        directory: The directory, which need not exist.
        names: Regular expression of the names of the pipeline's files.

    Raises:
        UserError: It does; nothing has been changed.
    """
    directory = Path(directory)
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        if not re.fullmatch(f"{names}|{_OF_SYSTEMS}", path.name):
            raise UserError(
                f"{path} is none of the pipeline's files and would be lost: move it out of {directory}, then run again"
            )


def _restore(previous: Path, path: Path) -> None:
    """Give a directory that stepped aside its name back, or remove it if another one has taken its place."""
    if previous.exists() and not path.exists():
        previous.rename(path)
    _remove(previous)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Flush a file or directory to disk; some file systems cannot do that for directories."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: str | Path, content: bytes | memoryview) -> None:
    """Write `content` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, content: object) -> None:
    """Write `content` as indented JSON atomically; keys keep their order."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table without its index atomically.

    Text that a spreadsheet would execute as a formula is prefixed with an apostrophe, which spreadsheets read as a
    mark of plain text.
    """
    texts = table.select_dtypes(exclude="number").columns
    escaped = table.assign(**{name: table[name].map(_escape_formula) for name in texts})
    with atomic_write(path) as temporary:
        escaped.to_csv(temporary, index=False, lineterminator="\n")


def _escape_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith((*_FORMULA_STARTS, "'")) else cell


def unescape_formula(cell: str) -> str:
    """Return the text of a cell that `write_csv` may have escaped."""
    return cell[1:] if cell.startswith(tuple(f"'{start}" for start in (*_FORMULA_STARTS, "'"))) else cell


def write_array(path: str | Path, array: NDArray[np.generic]) -> None:
    """Write `array` as .npy atomically."""
    content = io.BytesIO()
    np.save(content, array)
    write_bytes(path, content.getvalue())


def require(path: str | Path, stage: str) -> Path:
    """Return the path of an input that `stage` produces.

    Raises:
        UserError: The file does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} is missing: run `dvc repro {stage}` first")
    return path


def read_json(path: str | Path, stage: str, form: type[Content]) -> Content:
    """Read a JSON file that `stage` produces.

    Args:
        path: The file.
        stage: Name of the stage, for the message if the file cannot be read.
        form: Type of the content, such as a TypedDict. Keys that it does not name are left out.

    Raises:
        UserError: The file is missing or damaged, or holds something else.
    """
    path = require(path, stage)
    try:
        return TypeAdapter(form).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise UserError(f"{path} is damaged ({where}{first['msg']}): run `dvc repro {stage}` again") from error


def read_array(path: str | Path, stage: str, dtype: type[Scalar]) -> NDArray[Scalar]:
    """Read a .npy file of the given data type that `stage` produces.

    Raises:
        UserError: The file is missing or damaged, or holds another data type.
    """
    path = require(path, stage)
    try:
        return np.array(map_array(path, dtype))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): run `dvc repro {stage}` again") from error


def map_array(path: str | Path, dtype: type[Scalar]) -> NDArray[Scalar]:
    """Memory-map a .npy file; a header that promises more than the file holds is found before memory is allocated.

    Raises:
        ValueError: The file is damaged, or holds another data type.
        OSError: The file cannot be opened.
    """
    try:
        array: NDArray[Scalar] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # The header is parsed as Python, which fails in many ways.
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if array.dtype != np.dtype(dtype):
        raise ValueError(f"it holds {array.dtype}, not {np.dtype(dtype)}")
    return array


def require_space(directory: str | Path, size: int, what: str) -> None:
    """Refuse to start writing what the disk has no room for.

    Args:
        directory: Directory to write to; it need not exist yet.
        size: Size of the content in bytes.
        what: Description of the content for the message.

    Raises:
        UserError: There is less room than `size`; the message states both.
    """
    existing = Path(directory).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if size > free:
        raise UserError(
            f"{what} needs {size / 2**20:,.0f} MiB, but {existing} has room for {free / 2**20:,.0f}: free some space"
        )


def checksum(path: str | Path, algorithm: str) -> str:
    """Return the hash of a file as hexadecimal digits, by one of hashlib's algorithms such as `md5` or `sha256`."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
