"""Statistics of the comparison: differences within a run and over runs, calibration, label efficiency.

Predictions are tables as `evaluation.predictions` makes them: one row per test image, in test order, with the columns
`actual`, `predicted` and `confidence`.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from typing_extensions import TypedDict

from stages.evaluation.accuracy import Score, StudyResult, correct, image_variance, score, wilson_interval


class MethodScore(Score):
    """Score of one method, as in `metrics/compare.json`.

    Attributes:
        ece: Expected calibration error in 0..1.
    """

    ece: float


def paired_differences(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Compare every two methods on the same test images.

    Args:
        predictions: Predictions of each method, two methods at least.

    Returns:
        One row per pair: `first` and `second`, the better method first; their `difference` in accuracy; `low` and
        `high`, the ends of its `difference_interval`; and `p` of McNemar's exact test (1947), corrected for the number
        of pairs by Holm (1979).
    """
    hits = {method: correct(table) for method, table in predictions.items()}
    rows = []
    for pair in combinations(hits, 2):
        second, first = sorted(pair, key=lambda method: float(hits[method].mean()))
        low, high = difference_interval(hits[first], hits[second])
        only_first = int((hits[first] & ~hits[second]).sum())
        only_second = int((hits[second] & ~hits[first]).sum())
        p = mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue
        difference = (only_first - only_second) / len(hits[first])
        rows.append({"first": first, "second": second, "difference": difference, "low": low, "high": high, "p": p})
    differences = pd.DataFrame(rows)
    differences["p"] = multipletests(differences["p"], method="holm")[1]
    return differences


def difference_interval(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a difference in accuracy.

    It is the percentile interval over 10,000 resamples of the test images. The difference depends only on how many
    images are gained, tied and lost, so each resample is drawn as these three counts.

    Args:
        first: (N,) whether the first method is correct on each image.
        second: (N,) whether the second method is correct on each image.
    """
    gain = first.astype(int) - second.astype(int)
    shares = [(gain == value).mean() for value in (1, 0, -1)]
    resampled = np.random.default_rng(0).multinomial(len(gain), shares, size=10_000) @ [1, 0, -1] / len(gain)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def class_accuracy(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the accuracy of each method on the test images of each class.

    Args:
        predictions: Predictions of each method.

    Returns:
        Columns `class`, `method`, `accuracy`, `low` and `high` (ends of the 95 % Wilson interval) and `images` (their
        number).
    """
    rows = []
    for method, table in predictions.items():
        for name, group in table.groupby("actual"):
            hits = int(correct(group).sum())
            low, high = (round(end, 6) for end in wilson_interval(hits, len(group)))
            rows.append([name, method, round(hits / len(group), 6), low, high, len(group)])
    return pd.DataFrame(rows, columns=["class", "method", "accuracy", "low", "high", "images"])


def reliability(predictions: pd.DataFrame, bins: int = 15) -> pd.DataFrame:
    """Return the points of a reliability diagram (Guo et al. 2017, equations 1 and 2).

    Args:
        predictions: Predictions of one method.
        bins: Number of bins of equal width that divide the confidences in 0..1.

    Returns:
        One row per bin that is not empty: mean `confidence`, mean `accuracy`, number of `images`, and `low` and `high`,
        the ends of the accuracy's 95 % Wilson interval.
    """
    numbers = np.clip(np.ceil(predictions["confidence"] * bins), 1, bins)
    outcomes = pd.DataFrame({"confidence": predictions["confidence"], "accuracy": correct(predictions)})
    groups = outcomes.groupby(numbers)
    table = groups.mean().assign(images=groups.size())
    intervals = [wilson_interval(int(group["accuracy"].sum()), len(group)) for _, group in groups]
    table[["low", "high"]] = np.round(intervals, 6)
    return table.reset_index(drop=True)


def calibration_error(predictions: pd.DataFrame, bins: int = 15) -> float:
    """Return the expected calibration error, the mean gap between confidence and accuracy (Guo et al. 2017, eq. 3).

    Args:
        predictions: Predictions of one method.
        bins: Number of bins; see `reliability`.
    """
    table = reliability(predictions, bins)
    return float(((table["confidence"] - table["accuracy"]).abs() * table["images"]).sum() / table["images"].sum())


def method_score(predictions: pd.DataFrame, labels: int) -> MethodScore:
    """Score the test predictions of one method.

    Args:
        predictions: Predictions of the method.
        labels: Number of visible labels that it was trained with.
    """
    return {**score(predictions, labels), "ece": round(calibration_error(predictions), 6)}


def mean_interval(values: Sequence[float], image_error: float) -> tuple[float, float]:
    """Return the 95 % interval of a mean over draws or whole runs that were tested on a sample of images.

    The variance V of the mean is that of the sampling of images added to S, the sample variance of the values divided
    by their number K. Student's t has (K - 1) V / S degrees of freedom: K - 1 if images add nothing, and more the
    larger their share, since it is estimated from many images. Satterthwaite's formula squares V / S, which covers too
    little here, since S and the share of the images are estimated from the same values.

    Args:
        values: Two or more accuracies, or differences in accuracy.
        image_error: Standard error of their mean from the sampling of test images; see `mean_over_draws`.
    """
    mean = float(np.mean(values))
    margin = float(t.ppf(0.975, _degrees(values, image_error))) * _error(values, image_error)
    return mean - margin, mean + margin


def _error(values: Sequence[float], image_error: float) -> float:
    return sqrt(float(np.var(values, ddof=1)) / len(values) + image_error**2)


def _degrees(values: Sequence[float], image_error: float) -> float:
    between = float(np.var(values, ddof=1)) / len(values)
    return (len(values) - 1) * max(1.0, (between + image_error**2) / max(between, 1e-12))


class RunsSummary(TypedDict):
    """Mean over whole pipelines, each with another seed.

    Attributes:
        mean: Mean of the accuracies or differences.
        std: Sample standard deviation over the runs.
        low: Lower end of the 95 % `mean_interval`.
        high: Upper end of it.
        values: The value of each run.
    """

    mean: float
    std: float
    low: float
    high: float
    values: list[float]


def accuracy_over_runs(hits: Mapping[str, NDArray[np.bool_]]) -> dict[str, RunsSummary]:
    """Summarise the accuracy of each method over whole pipelines.

    Args:
        hits: (K, N) for each method, whether each of K runs is correct on each of N test images; K is at least 2.
    """
    return {method: _over_runs(outcomes.astype(np.int64)) for method, outcomes in hits.items()}


def _over_runs(outcomes: NDArray[np.int64]) -> RunsSummary:
    values = outcomes.mean(1).tolist()
    low, high = np.clip(mean_interval(values, image_variance(outcomes) ** 0.5), -1 if outcomes.min() < 0 else 0, 1)
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)),
        "low": float(low),
        "high": float(high),
        "values": values,
    }


def paired_differences_over_runs(hits: Mapping[str, NDArray[np.bool_]]) -> pd.DataFrame:
    """Compare every two methods over whole pipelines, paired by seed and by test image.

    Args:
        hits: As in `accuracy_over_runs`.

    Returns:
        One row per pair: `first` and `second`, the better method first; their mean `difference` in accuracy, its
        standard deviation `std` over the runs, and `low` and `high`, the ends of its `mean_interval`; the number of
        `runs`, and of those in which the first is `ahead`; and `p` of the t-test of that mean against zero, corrected
        for the number of pairs by Holm (1979).
    """
    rows = []
    for pair in combinations(hits, 2):
        second, first = sorted(pair, key=lambda method: float(hits[method].mean()))
        outcomes = hits[first].astype(np.int64) - hits[second].astype(np.int64)
        summary, image_error = _over_runs(outcomes), image_variance(outcomes) ** 0.5
        error, degrees = _error(summary["values"], image_error), _degrees(summary["values"], image_error)

        rows.append(
            {
                "first": first,
                "second": second,
                "difference": summary["mean"],
                "std": summary["std"],
                "low": summary["low"],
                "high": summary["high"],
                "runs": len(outcomes),
                "ahead": sum(value > 0 for value in summary["values"]),
                "p": float(2 * t.sf(summary["mean"] / error, degrees)) if error else float(summary["mean"] == 0),
            }
        )
    differences = pd.DataFrame(rows)
    differences["p"] = multipletests(differences["p"], method="holm")[1]
    return differences


def efficiency_table(scores: Mapping[str, Score], study: Mapping[float, Mapping[str, StudyResult]]) -> pd.DataFrame:
    """Return accuracy against number of labels, one row per number of labels and method, fewest labels first.

    Args:
        scores: Score of each method in the main run, which is one draw of its number of labels.
        study: Content of `metrics/study/<ratio>.json` for each ratio. A ratio with the number of labels of the main
            run takes its place.

    Returns:
        Columns `labels`, `method`, `accuracy`, `low`, `high` and `seeds`. `low` and `high` are the ends of the 95 %
        `mean_interval` over draws, trainings and test images; NaN for a single draw, which says nothing of others.
    """
    rows = []
    studied = {result["labels"] for methods in study.values() for result in methods.values()}
    for method, result in scores.items():
        if result["labels"] not in studied:
            rows.append([result["labels"], method, result["accuracy"], float("nan"), float("nan"), 1])
    for methods in study.values():
        for method, studied_result in methods.items():
            low, high = float("nan"), float("nan")
            if studied_result["seeds"] > 1:
                low, high = mean_interval(studied_result["draws"], studied_result["image_error"])
            low, high = np.round(np.clip([low, high], 0, 1), 6)
            rows.append(
                [studied_result["labels"], method, studied_result["accuracy"], low, high, studied_result["seeds"]]
            )
    table = pd.DataFrame(rows, columns=["labels", "method", "accuracy", "low", "high", "seeds"])
    return table.drop_duplicates(["labels", "method"]).sort_values("labels", kind="stable", ignore_index=True)


def efficiency_over_runs(runs: Sequence[Mapping[int, Mapping[str, float]]]) -> pd.DataFrame:
    """Return mean accuracy against number of labels over whole pipelines.

    Args:
        runs: Accuracy of each method at each number of labels, for one or more runs. Numbers of labels that not every
            run has are left out.

    Returns:
        The columns of `efficiency_table`; here `low` and `high` are the lowest and the highest accuracy of a run.
    """
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    rows = []
    for labels in shared:
        for method in runs[0][labels]:
            values = [run[labels][method] for run in runs]
            rows.append([labels, method, round(float(np.mean(values)), 6), min(values), max(values), len(values)])
    return pd.DataFrame(rows, columns=["labels", "method", "accuracy", "low", "high", "seeds"])


def by_method(efficiency: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `efficiency_table` with one row per number of labels.

    Its columns are `labels` and `seeds`, and `<method>`, `<method>_low` and `<method>_high` for each method.
    """
    wide = efficiency.pivot(index=["labels", "seeds"], columns="method", values=["accuracy", "low", "high"])
    methods = efficiency["method"].unique()
    columns = [(end, method) for method in methods for end in ("accuracy", "low", "high")]
    wide = wide[columns]
    wide.columns = pd.Index([method if end == "accuracy" else f"{method}_{end}" for end, method in columns])
    return wide.reset_index()


def labels_needed(labels: Sequence[int], accuracies: Sequence[float], target: float) -> float:
    """Return the number of labels at which a method first reaches an accuracy.

    Accuracy is interpolated linearly over the logarithm of the number of labels. A drop is ignored: an accuracy once
    reached counts as reached.

    Args:
        labels: Numbers of labels, ascending.
        accuracies: Accuracy of the method at each.
        target: Accuracy to reach.

    Returns:
        The number of labels; infinite if the target is above all accuracies, 0 if it is below the first.
    """
    curve = np.maximum.accumulate(accuracies)
    if target > curve[-1]:
        return float("inf")
    if target < curve[0]:
        return 0.0
    right = int(np.argmax(curve >= target))
    if right == 0:
        return float(labels[0])
    share = (target - curve[right - 1]) / (curve[right] - curve[right - 1])
    return float(labels[right - 1] * (labels[right] / labels[right - 1]) ** share)
