"""Contenders that work in turn, so that a machine that is faster now and slower then is so for all of them, and what their turns say."""

import time
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import Guest, now

SECONDS_OF_A_TURN = 1.0
_WARM_UP = 2
_RESAMPLES = 10_000
_BLOCK = 5


class Turns:
    """Lets guests have their turns within the run of a host, that calls `between_steps` before each of its steps.

    A turn is as many whole steps as begin within a second. The first two rounds are left out, since what is done once, such as
    compiling, falls into them. In each round another guest is the first.
    """

    def __init__(self, host: str, guests: dict[str, Guest], device: torch.device) -> None:
        """Nobody has begun yet. `host` is the host's name, `guests` are by theirs, `device` is where all work."""
        self._host, self._guests, self._device = host, guests, device
        self._taken: dict[str, list[tuple[int, float]]] = {name: [] for name in (host, *guests)}
        self._began: float | None = None
        self._steps = 0

    def between_steps(self, busy: bool = False) -> None:
        """Go on, or let the guests have their turns where that of the host is over.

        It is not while the host is `busy` beside its steps, which would slow down the guests.
        """
        if self._began is None:
            self._began = now(self._device)
            return
        self._steps += 1
        if time.perf_counter() - self._began >= SECONDS_OF_A_TURN and not busy:
            self._pass_on()

    def finish(self) -> dict[str, NDArray[np.float64]]:
        """To be called after the host's last step: (n, 2) steps and seconds of each one's turns.

        Raises:
            ValueError: there were no rounds but those that are left out.
        """
        self._steps += 1
        self._pass_on()
        return _counted(self._taken)

    def _pass_on(self) -> None:
        round_ = len(self._taken[self._host])
        self._taken[self._host].append((self._steps, now(self._device) - self._began))
        for name in _rotated(self._guests, round_):
            self._taken[name].append(_turn(self._guests[name], self._device))
        self._began, self._steps = now(self._device), 0


def in_turn(contenders: dict[str, Guest], rounds: int, device: torch.device) -> dict[str, NDArray[np.float64]]:
    """The same where nobody is the host: (rounds, 2) steps and seconds of each one's turns."""
    taken: dict[str, list[tuple[int, float]]] = {name: [] for name in contenders}
    for number in range(_WARM_UP + rounds):
        for name in _rotated(contenders, number):
            taken[name].append(_turn(contenders[name], device))
    return _counted(taken)


def _rotated(names: Iterable[str], by: int) -> list[str]:
    names = list(names)
    return [names[(number + by) % len(names)] for number in range(len(names))]


def _counted(taken: dict[str, list[tuple[int, float]]]) -> dict[str, NDArray[np.float64]]:
    if any(len(turns) <= _WARM_UP for turns in taken.values()):
        raise ValueError(f"the first {_WARM_UP} rounds do not count, and there were no others: take more epochs")
    return {name: np.array(turns[_WARM_UP:]) for name, turns in taken.items()}


def _turn(work: Guest, device: torch.device) -> tuple[int, float]:
    """Steps and seconds."""
    began, steps = now(device), 0
    while time.perf_counter() - began < SECONDS_OF_A_TURN:
        next(work)
        steps += 1
    seconds = now(device) - began
    work.send(True)
    return steps, seconds


def rate(turns: NDArray[np.float64], per_step: int) -> dict[str, float]:
    """Work per second over all turns, (n, 2) steps and seconds, with its 95 % interval (see `ratio`)."""
    return {name: round(per_step * value, 1) for name, value in _with_interval(_rates(turns)).items()}


def ratio(turns: NDArray[np.float64], others: NDArray[np.float64]) -> dict[str, float]:
    """How many times as fast as others one is, with the 95 % percentile interval of a bootstrap over rounds.

    Turns that follow one another, (n, 2) each, make a round and are drawn together, so what slows a whole round down is no difference;
    and so are five rounds that follow one another, the last followed by the first, since neighbours are alike (circular block
    bootstrap, Politis and Romano 1992).
    """
    return {name: round(value, 3) for name, value in _with_interval(_rates(turns) / _rates(others)).items()}


def _rates(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps per second in all rounds, then in each of the resamples, which are the same for all contenders: (1 + resamples,)."""
    starts = np.random.default_rng(0).integers(0, len(turns), (_RESAMPLES, -(-len(turns) // _BLOCK), 1))
    drawn = (starts + np.arange(_BLOCK)).reshape(_RESAMPLES, -1)[:, : len(turns)] % len(turns)
    sums = np.vstack([turns.sum(0), turns[drawn].sum(1)])
    return sums[:, 0] / sums[:, 1]


def _with_interval(values: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
