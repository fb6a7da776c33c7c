"""Rates and ratios of interleaved contenders, with their 95 % confidence intervals."""

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 10_000
_BLOCK = 5


def rate(turns: NDArray[np.float64], per_step: int) -> dict[str, float]:
    """Return the work per second over all turns.

    Args:
        turns: Steps and seconds of each turn, (rounds, 2).
        per_step: Units of work in a step.

    Returns:
        The `value`, and the ends `low` and `high` of its 95 % interval (see `ratio`).
    """
    return {name: round(per_step * value, 1) for name, value in _with_interval(_rates(turns)).items()}


def ratio(turns: NDArray[np.float64], others: NDArray[np.float64]) -> dict[str, float]:
    """Return how many times as fast as another contender one is.

    The interval is the percentile interval of a circular block bootstrap (Politis and Romano 1992). The turns of one
    round are drawn together, so that what slows a whole round down makes no difference; and five consecutive rounds are
    drawn together, the first following the last, since neighbouring rounds are alike.

    Args:
        turns: Steps and seconds of each turn of the one, (rounds, 2).
        others: Those of the other in the same rounds.

    Returns:
        The `value`, and the ends `low` and `high` of its 95 % interval.
    """
    return {name: round(value, 3) for name, value in _with_interval(_rates(turns) / _rates(others)).items()}


def _rates(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (1 + resamples,) steps per second: over all rounds, then in each resample, alike for all contenders."""
    starts = np.random.default_rng(0).integers(0, len(turns), (_RESAMPLES, -(-len(turns) // _BLOCK), 1))
    drawn = (starts + np.arange(_BLOCK)).reshape(_RESAMPLES, -1)[:, : len(turns)] % len(turns)
    sums = np.vstack([turns.sum(0), turns[drawn].sum(1)])
    rates: NDArray[np.float64] = sums[:, 0] / sums[:, 1]
    return rates


def _with_interval(values: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
