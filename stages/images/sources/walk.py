"""The files below a directory."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(directory: str, left_out: dict[str, list[str]]) -> Iterator[os.DirEntry[str]]:
    """Yield the files below a directory that are not hidden, directory by directory in the order of their names.

    A directory that is reached twice, by a link, is searched once.

    Args:
        directory: Directory to search.
        left_out: Directories and links that are left out, by reason; this function adds to it.
    """
    yield from _files_below(directory, left_out, set())


def _files_below(
    directory: str, left_out: dict[str, list[str]], visited: set[tuple[int, int]]
) -> Iterator[os.DirEntry[str]]:
    try:
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
        with os.scandir(directory) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError:
        left_out.setdefault("folders that may not be read", []).append(directory)
        return
    for entry in found:
        kind = _kind(entry)
        if kind == "directory":
            yield from _files_below(entry.path, left_out, visited)
        elif kind == "file":
            yield entry
        else:
            left_out.setdefault("links that lead nowhere, or no files", []).append(entry.path)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "directory" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:  # A link to itself, or something that may not be looked at.
        return "other"
