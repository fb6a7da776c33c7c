"""Statistics of the comparison: paired differences, accuracy by class, calibration, label efficiency.

Predictions are tables as `evaluation.predictions` makes them: one row per test image, in test order, with the columns
`actual`, `predicted` and `confidence`.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from stages.evaluation.accuracy import Score, correct, score, wilson_interval


class MethodScore(Score):
    """Score of one method, as in `metrics/compare.json`.

    Attributes:
        ece: Expected calibration error in 0..1.
    """

    ece: float


class StudyResult(TypedDict):
    """Accuracy of one method at one label ratio, as in `metrics/study/<ratio>.json`.

    Attributes:
        accuracy: Mean top-1 accuracy over the draws, in 0..1.
        std: Sample standard deviation over the draws; 0 for a single one.
        seeds: Number of draws of visible labels.
        draws: Accuracy of each draw.
        labels: Number of visible labels.
        test_images: Number of test images.
    """

    accuracy: float
    std: float
    seeds: int
    draws: list[float]
    labels: int
    test_images: int


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


def mean_interval(values: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of two or more independent values (Student's t)."""
    mean, error = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
    margin = float(t.ppf(0.975, len(values) - 1) * error)
    return float(mean) - margin, float(mean) + margin


def efficiency_table(study: Mapping[float, Mapping[str, StudyResult]]) -> pd.DataFrame:
    """Return accuracy against number of labels, one row per ratio and method, fewest labels first.

    Args:
        study: Content of `metrics/study/<ratio>.json` for each ratio.

    Returns:
        Columns `ratio`, `labels`, `method`, `accuracy`, `low`, `high`, `error` and `seeds`. With one draw of labels,
        `low` and `high` are the ends of the 95 % Wilson interval over test images, and `error` is the binomial standard
        error; with several, they are those of `mean_interval`, and `error` is the standard error of the mean over
        draws.
    """
    rows = []
    for ratio, methods in sorted(study.items()):
        for method, result in methods.items():
            accuracy, seeds, total = result["accuracy"], result["seeds"], result["test_images"]
            if seeds == 1:
                low, high = wilson_interval(round(accuracy * total), total)
                error = (accuracy * (1 - accuracy) / total) ** 0.5
            else:
                low, high = mean_interval(result["draws"])
                error = float(np.std(result["draws"], ddof=1)) / seeds**0.5
            low, high = round(max(low, 0.0), 6), round(min(high, 1.0), 6)
            rows.append([ratio, result["labels"], method, accuracy, low, high, round(error, 6), seeds])
    return pd.DataFrame(rows, columns=["ratio", "labels", "method", "accuracy", "low", "high", "error", "seeds"])


def by_method(efficiency: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `efficiency_table` with one row per ratio.

    Its columns are `ratio`, `labels` and `seeds`, and `<method>`, `<method>_low` and `<method>_high` for each method.
    """
    wide = efficiency.pivot(index=["ratio", "labels", "seeds"], columns="method", values=["accuracy", "low", "high"])
    methods = efficiency["method"].unique()
    columns = [(end, method) for method in methods for end in ("accuracy", "low", "high")]
    wide = wide[columns]
    wide.columns = pd.Index([method if end == "accuracy" else f"{method}_{end}" for end, method in columns])
    return wide.reset_index()


def labels_needed(efficiency: pd.DataFrame, method: str, baseline: str) -> pd.DataFrame:
    """Return how many labels `baseline` needs to match `method`, interpolated between the label ratios of the study.

    Accuracy is interpolated linearly over the logarithm of the number of labels. The 95 % interval comes from 2,000
    parametric resamples, in which every accuracy is drawn around its value: from a normal distribution over test images
    for one draw of labels, from Student's t for several. The methods are resampled independently although they share
    test images, which makes the interval slightly too wide.

    Args:
        efficiency: Result of `efficiency_table`.
        method: Name of the method to match.
        baseline: Name of the method that needs more labels.

    Returns:
        One row per ratio: `labels` of the method, and `needed`, `low` and `high` of the baseline. They are infinite if
        the baseline never matches the method within the study, and 0 if it already exceeds it with the fewest labels.
    """
    method_rows = efficiency[efficiency["method"] == method]
    baseline_rows = efficiency[efficiency["method"] == baseline]
    log_labels = np.log(baseline_rows["labels"].to_numpy(float))
    accuracies, baseline_accuracies = (table["accuracy"].to_numpy(float) for table in (method_rows, baseline_rows))

    rng = np.random.default_rng(0)
    resampled_baselines = _resample(baseline_rows, rng)
    resampled_targets = _resample(method_rows, rng)

    rows = []
    for number, labels in enumerate(method_rows["labels"]):
        needed = _crossing(log_labels, baseline_accuracies[None], accuracies[[number]])[0]
        resamples = _crossing(log_labels, resampled_baselines, resampled_targets[:, number])
        low = np.quantile(resamples, 0.025, method="lower")
        high = np.quantile(resamples, 0.975, method="higher")
        rows.append([int(labels), float(needed), float(low), float(high)])
    return pd.DataFrame(rows, columns=["labels", "needed", "low", "high"])


def _resample(rows: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw (2000, R) accuracies around those of R rows of the efficiency table."""
    seeds = rows["seeds"].to_numpy(int)
    shape = (2_000, len(rows))
    noise = np.where(seeds > 1, rng.standard_t(np.maximum(seeds - 1, 1), shape), rng.standard_normal(shape))
    accuracies: NDArray[np.float64] = rows["accuracy"].to_numpy(float) + noise * rows["error"].to_numpy(float)
    return accuracies


def _crossing(
    log_labels: NDArray[np.float64], accuracies: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the numbers of labels at which accuracy curves first reach their targets.

    Args:
        log_labels: (R,) logarithms of the numbers of labels, ascending.
        accuracies: (M, R) curves; a drop is ignored, as an accuracy once reached counts as reached.
        targets: (M,) accuracies to reach.

    Returns:
        (M,) numbers of labels: infinite where the target is not reached, 0 where the first point is above it.
    """
    curves = np.maximum.accumulate(accuracies, axis=1)
    rows = np.arange(len(curves))
    right = (curves < targets[:, None]).sum(1).clip(min(1, len(log_labels) - 1), len(log_labels) - 1)
    left = np.maximum(right - 1, 0)

    rise = curves[rows, right] - curves[rows, left]
    share = (targets - curves[rows, left]) / np.where(rise > 0, rise, 1)
    labels = np.exp(log_labels[left] + np.clip(share, 0, 1) * (log_labels[right] - log_labels[left]))
    labels = np.where(targets > curves[:, -1], np.inf, labels)
    return np.where(targets < curves[:, 0], 0.0, labels)
