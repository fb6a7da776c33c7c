"""One look for all progress bars."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


def progress(
    items: Iterable | None = None, *, title: str, unit: str, total: int | None = None, done: int = 0, shown: bool = True
) -> tqdm:
    """A progress bar on standard error with rate and time left; in a log rather than a terminal it speaks rarely.

    Args:
        items: to go through; or None, and the bar is moved by `update`.
        title: shown before the bar.
        unit: of what is counted.
        total: how much there is to do, where `items` do not tell.
        done: how much was done before.
        shown: whether there is to be a bar at all.
    """
    live = sys.stderr.isatty()
    return tqdm(
        items,
        desc=title,
        unit=unit,
        total=total,
        initial=done,
        disable=not shown,
        unit_scale=unit in ("B", "img"),
        dynamic_ncols=live,
        mininterval=0.2 if live else 15,
    )
