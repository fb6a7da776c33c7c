"""Waiting for what another process or thread does, however busy the machine is."""

import time
from collections.abc import Callable

_LIMIT = 300


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; fail, saying `what` did not happen, only after five minutes."""
    give_up = time.monotonic() + _LIMIT
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not happen within {_LIMIT} s"
        time.sleep(0.01)
