"""The methods that are compared, and the accuracy of their test predictions.

Predictions are a table with one row per test image, whose columns `actual` and `predicted` hold class names.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from typing_extensions import TypedDict

METHODS = ("supervised", "probe", "fine_tune", "semi_supervised")


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


class StudyResult(TypedDict):
    """Accuracy of one method at one label ratio, as in `metrics/study/<ratio>.json`.

    Attributes:
        accuracy: Mean top-1 accuracy over the draws, in 0..1.
        std: Sample standard deviation over the draws; None for a single one.
        seeds: Number of draws, each with its own visible labels and its own training.
        draws: Accuracy of each draw.
        labels: Number of visible labels.
        test_images: Number of test images.
        image_error: Standard error of the mean from the sampling of test images; see `mean_over_draws`.
    """

    accuracy: float
    std: float | None
    seeds: int
    draws: list[float]
    labels: int
    test_images: int
    image_error: float


def mean_over_draws(hits: NDArray[np.bool_], labels: int) -> StudyResult:
    """Summarise the accuracy of one method over several draws that were tested on the same images.

    Draws and images are the two factors of an analysis of variance without repetition. With mean squares M of images
    and of the residual, the share of the test images in the variance of the mean is (M_images - M_residual) / (K N);
    that of the draws is their sample variance / K. A single draw has the binomial error (Searle, Casella and McCulloch
    1992, Variance Components, section 4.5).

    Args:
        hits: (K, N) whether each of K draws is correct on each of N images.
        labels: Number of visible labels, which is passed on.

    Returns:
        The summary, rounded to six decimals.
    """
    draws, images = hits.shape
    accuracies = hits.mean(1)
    mean = float(accuracies.mean())
    variance = mean * (1 - mean) / images if draws == 1 else image_variance(hits)
    return {
        "accuracy": round(mean, 6),
        "std": round(float(accuracies.std(ddof=1)), 6) if draws > 1 else None,
        "seeds": draws,
        "draws": [round(float(accuracy), 6) for accuracy in accuracies],
        "labels": labels,
        "test_images": images,
        "image_error": round(variance**0.5, 6),
    }


def image_variance(outcomes: NDArray[np.bool_] | NDArray[np.int64]) -> float:
    """Return the variance that the sampling of test images gives the mean of (K, N) outcomes; see `mean_over_draws`."""
    draws, images = outcomes.shape
    if images < 2:
        return 0.0
    by_image, by_draw, mean = outcomes.mean(0), outcomes.mean(1), outcomes.mean()
    residual = outcomes - by_image - by_draw[:, None] + mean
    image_square = draws * float(np.square(by_image - mean).sum()) / (images - 1)
    residual_square = float(np.square(residual).sum()) / ((images - 1) * (draws - 1))
    variance: float = max(0.0, image_square - residual_square) / (draws * images)
    return variance


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
    """Return the 95 % score interval of a proportion of independent trials (Wilson 1927, page 209).

    It is what `scipy.stats.binomtest` gives, whose import would delay every stage by more than a second.

    Args:
        successes: Number of successes in 0..`trials`, such as correct predictions.
        trials: Number of trials, at least 1, such as test images.
    """
    z, share = float(ndtri(0.975)), successes / trials
    center = share + z**2 / (2 * trials)
    half = z * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    low, high = ((center + side * half) / (1 + z**2 / trials) for side in (-1, 1))
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


def describe(score: Score) -> str:
    """Format an accuracy and its interval, such as `87.3% (85.8% to 88.6%)`."""
    return format_interval(score["accuracy"], *score["ci95"])


def format_interval(accuracy: float, low: float, high: float) -> str:
    """Format an accuracy in 0..1 and the ends of its interval, such as `87.3% (85.8% to 88.6%)`."""
    return f"{accuracy:.1%} ({low:.1%} to {high:.1%})"
