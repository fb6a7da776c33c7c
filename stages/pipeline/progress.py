"""One look for all progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar, overload

from tqdm import tqdm

Item = TypeVar("Item")


@overload
def progress(items: Iterable[Item], *, title: str, unit: str) -> tqdm[Item]: ...


@overload
def progress(
    items: None = None, *, title: str, unit: str, total: int, done: int = 0, shown: bool = True
) -> tqdm[int]: ...


def progress(
    items: Iterable[Item] | None = None,
    *,
    title: str,
    unit: str,
    total: int | None = None,
    done: int = 0,
    shown: bool = True,
) -> tqdm[Item] | tqdm[int]:
    """Return a progress bar on standard error with rate and time left; in a log it prints a line every 15 seconds.

    Args:
        items: Items to iterate over; None for a bar that is moved by `update`.
        title: Text shown before the bar.
        unit: Unit of what is counted, such as `img`.
        total: Number of units to do, if there are no `items`.
        done: Number of units that an earlier run completed.
        shown: Whether to show the bar at all.
    """
    live = sys.stderr.isatty()
    return tqdm(
        () if items is None else items,
        desc=title,
        unit=unit,
        total=total,
        initial=done,
        disable=not shown,
        unit_scale=unit in ("B", "img"),
        dynamic_ncols=live,
        mininterval=0.2 if live else 15,
    )
