"""Outputs are whole or absent: written under another name, then renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """What a person can mend: one line saying what is wrong, where, and what to do."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the name `path` when the block succeeds and vanishes when it fails.

    Works for a file and for a directory; whatever stood at `path` is replaced, parents are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


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
