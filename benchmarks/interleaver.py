"""Contenders that work in turn, so that a machine whose speed varies varies for all of them alike."""

import time
from collections.abc import Generator, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

# Takes a step whenever it is resumed by `next`. After `send(True)` it rests until the next step is asked for.
Contender = Generator[None, bool | None, None]

SECONDS_PER_TURN = 1.0
_WARM_UP_ROUNDS = 2


class Interleaver:
    """Lets contenders take turns within the run of a host, which calls `before_step` before each of its steps.

    A turn is as many whole steps as begin within a second. The first two rounds are left out, since what is done once,
    such as compilation, falls into them. Each round begins with another contender.
    """

    def __init__(self, host: str, contenders: dict[str, Contender], device: torch.device) -> None:
        """Create an interleaver in which nobody has begun yet.

        Args:
            host: Name of the host.
            contenders: The other contenders by name.
            device: Device on which all of them work.
        """
        self._host, self._contenders, self._device = host, contenders, device
        self._turns: dict[str, list[tuple[int, float]]] = {name: [] for name in (host, *contenders)}
        self._start: float | None = None
        self._steps = 0

    def before_step(self, busy: bool = False) -> None:
        """Return at once, or after a turn of each contender if the host's own turn is over.

        Args:
            busy: Whether the host does something beside its steps, which would slow the others down; its turn then
                goes on.
        """
        if self._start is None:
            self._start = now(self._device)
            return
        self._steps += 1
        if time.perf_counter() - self._start >= SECONDS_PER_TURN and not busy:
            self._end_turn(self._start)

    def finish(self) -> dict[str, NDArray[np.float64]]:
        """Return the turns of all, by name, once the host has taken its last step.

        Returns:
            Steps and seconds of each turn, (rounds, 2), of the host and of every contender.

        Raises:
            ValueError: There were no rounds beside those that are left out.
        """
        if self._start is not None:
            self._steps += 1
            self._end_turn(self._start)
        return _without_warm_up(self._turns)

    def _end_turn(self, start: float) -> None:
        number = len(self._turns[self._host])
        self._turns[self._host].append((self._steps, now(self._device) - start))
        for name in _rotated(self._contenders, number):
            self._turns[name].append(_take_turn(self._contenders[name], self._device))
        self._start, self._steps = now(self._device), 0


def interleave(contenders: dict[str, Contender], rounds: int, device: torch.device) -> dict[str, NDArray[np.float64]]:
    """Let contenders take turns without a host.

    Args:
        contenders: Contenders by name.
        rounds: Number of rounds that count.
        device: Device on which all of them work.

    Returns:
        Steps and seconds of each turn, (rounds, 2), by name.
    """
    turns: dict[str, list[tuple[int, float]]] = {name: [] for name in contenders}
    for number in range(_WARM_UP_ROUNDS + rounds):
        for name in _rotated(contenders, number):
            turns[name].append(_take_turn(contenders[name], device))
    return _without_warm_up(turns)


def now(device: torch.device) -> float:
    """Return the time in seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _take_turn(contender: Contender, device: torch.device) -> tuple[int, float]:
    """Return the number of steps and the seconds of one turn."""
    start, steps = now(device), 0
    while time.perf_counter() - start < SECONDS_PER_TURN:
        next(contender)
        steps += 1
    seconds = now(device) - start
    contender.send(True)
    return steps, seconds


def _rotated(names: Iterable[str], by: int) -> list[str]:
    names = list(names)
    return [names[(place + by) % len(names)] for place in range(len(names))]


def _without_warm_up(turns: dict[str, list[tuple[int, float]]]) -> dict[str, NDArray[np.float64]]:
    if any(len(found) <= _WARM_UP_ROUNDS for found in turns.values()):
        raise ValueError(
            f"the first {_WARM_UP_ROUNDS} rounds do not count, and there were no others: train for more epochs"
        )
    return {name: np.array(found[_WARM_UP_ROUNDS:]) for name, found in turns.items()}
