"""Top-1 accuracy of test predictions, with its confidence interval.

Predictions are a table with one row per test image, whose columns `actual` and `predicted` hold class names.
"""

from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest


class Score(TypedDict):
    """Accuracy of one method on the test images.

    Attributes:
        accuracy: Top-1 accuracy in 0..1.
        ci95: Ends of its 95 % Wilson interval.
        labels: Number of visible labels that the method was trained with.
        test_images: Number of test images.
    """

    accuracy: float
    ci95: list[float]
    labels: int
    test_images: int


def correct(predictions: pd.DataFrame) -> NDArray[np.bool_]:
    """Return whether each of N predictions is correct, (N,)."""
    return (predictions["actual"] == predictions["predicted"]).to_numpy(bool)


def score(predictions: pd.DataFrame, labels: int) -> Score:
    """Score test predictions.

    Args:
        predictions: Table of test predictions, of at least one image.
        labels: Number of visible labels, which is passed on.

    Returns:
        Accuracy and interval, rounded to six decimals, and what they rest on.
    """
    hits = correct(predictions)
    return {
        "accuracy": round(int(hits.sum()) / len(hits), 6),
        "ci95": [round(end, 6) for end in wilson_interval(int(hits.sum()), len(hits))],
        "labels": labels,
        "test_images": len(hits),
    }


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion of independent trials (Wilson 1927).

    Args:
        successes: Number of successes in 0..`trials`, such as correct predictions.
        trials: Number of trials, at least 1, such as test images.
    """
    interval = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def describe(score: Score) -> str:
    """Format an accuracy and its interval, such as `87.3% (85.8% to 88.6%)`."""
    return format_interval(score["accuracy"], *score["ci95"])


def format_interval(accuracy: float, low: float, high: float) -> str:
    """Format an accuracy in 0..1 and the ends of its interval, such as `87.3% (85.8% to 88.6%)`."""
    return f"{accuracy:.1%} ({low:.1%} to {high:.1%})"
