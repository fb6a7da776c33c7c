"""Contenders that work in turn, so that a machine that is faster now and slower then is so for all of them, and what their turns say."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.contenders import now

SECONDS_OF_A_TURN = 1.0
_RESAMPLES = 10_000


class Turns:
    """Lets guests have their turns within the run of a host, that calls `between_steps` before each of its steps.

    A turn is as many whole steps as begin within a second. The first turn of each is left out, since what is done once, such as
    compiling, falls into it.
    """

    def __init__(self, host: str, epoch: int, guests: dict[str, Iterator[None]], device: torch.device) -> None:
        """Nobody has begun yet.

        Args:
            host: its name.
            epoch: of the host, in steps. No turn ends with one: what it writes then, while it goes on, is to slow down nobody else.
            guests: names to what does a step each time that it is asked for the next.
            device: of all.
        """
        self._host, self._epoch, self._guests, self._device = host, epoch, guests, device
        self._taken: dict[str, list[tuple[int, float]]] = {name: [] for name in (host, *guests)}
        self._began: float | None = None
        self._steps, self._steps_before = 0, 0

    def between_steps(self) -> None:
        """Go on, or let the guests have their turns where that of the host is over."""
        if self._began is None:
            self._began = now(self._device)
            return
        self._steps += 1
        over = time.perf_counter() - self._began >= SECONDS_OF_A_TURN
        if over and (self._steps_before + self._steps) % self._epoch:
            self._pass_on()

    def finish(self) -> dict[str, NDArray[np.float64]]:
        """To be called after the host's last step: (n, 2) steps and seconds of each one's turns."""
        self._steps += 1
        self._pass_on()
        return {name: np.array(turns[1:]) for name, turns in self._taken.items()}

    def _pass_on(self) -> None:
        self._taken[self._host].append((self._steps, now(self._device) - self._began))
        for name, work in self._guests.items():
            self._taken[name].append(_turn(work, self._device))
        self._steps_before += self._steps
        self._began, self._steps = now(self._device), 0


def in_turn(contenders: dict[str, Iterator[None]], rounds: int, device: torch.device) -> dict[str, NDArray[np.float64]]:
    """The same where nobody is the host: (rounds, 2) steps and seconds of each one's turns, after one that is left out."""
    taken = [{name: _turn(work, device) for name, work in contenders.items()} for _ in range(1 + rounds)][1:]
    return {name: np.array([turns[name] for turns in taken]) for name in contenders}


def _turn(work: Iterator[None], device: torch.device) -> tuple[int, float]:
    """Steps and seconds."""
    began, steps = now(device), 0
    while time.perf_counter() - began < SECONDS_OF_A_TURN:
        next(work)
        steps += 1
    return steps, now(device) - began


def rate(turns: NDArray[np.float64], per_step: int) -> dict[str, float]:
    """Work per second over all turns, (n, 2) steps and seconds, with its 95 % interval (see `ratio`)."""
    return {name: round(per_step * value, 1) for name, value in _with_interval(_rates(turns)).items()}


def ratio(turns: NDArray[np.float64], others: NDArray[np.float64]) -> dict[str, float]:
    """How many times as fast as others one is, with the 95 % percentile interval of a bootstrap over rounds.

    Turns that follow one another, (n, 2) each, make a round and are drawn together, so what slows a whole round down is no difference.
    """
    return {name: round(value, 3) for name, value in _with_interval(_rates(turns) / _rates(others)).items()}


def _rates(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps per second in all rounds, then in each of the resamples, which are the same for all contenders: (1 + resamples,)."""
    drawn = np.random.default_rng(0).integers(0, len(turns), (_RESAMPLES, len(turns)))
    sums = np.vstack([turns.sum(0), turns[drawn].sum(1)])
    return sums[:, 0] / sums[:, 1]


def _with_interval(values: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"all": float(values[0]), "low": float(low), "high": float(high)}
