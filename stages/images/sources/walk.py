"""Files below a directory."""

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
    status = Path(directory).stat()
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    try:
        with os.scandir(directory) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except PermissionError:
        left_out.setdefault("folders that may not be read", []).append(directory)
        return
    for entry in found:
        if entry.is_dir():
            yield from _files_below(entry.path, left_out, visited)
        elif entry.is_file():
            yield entry
        else:
            left_out.setdefault("links that lead nowhere, or no files", []).append(entry.path)
