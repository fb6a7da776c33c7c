"""A folder for each class, with links to the images or copies of them."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.pipeline.errors import UserError
from stages.pipeline.files import require_space

UNSURE = "unsure"


def sort_files(files: Sequence[Path], folders: Sequence[str], into: Path, *, copy: bool) -> None:
    """Put every file into a folder by its name; the files themselves stay as they are.

    Args:
        files: Files; those of the same name get a number.
        folders: Name of the folder of each file, in the same order.
        into: New or empty directory for the folders.
        copy: Whether to copy the files; otherwise they are linked by their absolute paths.

    Raises:
        UserError: The disk has no room for the copies.
    """
    if copy:
        require_space(into, sum(file.stat().st_size for file in files), f"a copy of {len(files):,} images")
    for file, name in zip(files, folders, strict=True):
        folder = into / name
        folder.mkdir(parents=True, exist_ok=True)
        target = _free_path(folder / file.name)
        if copy:
            shutil.copyfile(file, target)
        else:
            target.symlink_to(file.resolve())


def _free_path(path: Path) -> Path:
    """Return a path, with a number before its ending if there is such a file already."""
    found, number = path, 2
    while found.is_symlink() or found.exists():
        found, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    return found


def folder_names(classes: Sequence[str]) -> dict[str, str]:
    """Return the name of each class as that of a folder: without a slash, which leads elsewhere, or a leading dot.

    Raises:
        UserError: Two classes would share a folder, or one that of the unsure images.
    """
    names = {name: re.sub(r"[/\\\0]|^\.", "_", name) or "_" for name in classes}
    taken = [UNSURE, *names.values()]
    for name, folder in names.items():
        if taken.count(folder) > 1:
            raise UserError(f"class {name!r} cannot have a folder of its own, {folder}: leave out --into")
    return names


def require_empty(into: Path, sources: Sequence[Path]) -> None:
    """Refuse a directory that holds something, or that lies within the images that it is for.

    Raises:
        UserError: The message names the directory.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"{into} is there already and is not empty: name another folder")
    for source in sources:
        directory = source if source.is_dir() else source.parent
        if into.resolve().is_relative_to(directory.resolve()):
            raise UserError(f"{into} lies in {directory}, whose images it is for: name a folder elsewhere")
