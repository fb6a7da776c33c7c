"""Statistics of the comparison: differences on the same test images, classes, calibration, label efficiency."""

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from stages.reporting.records import wilson


def paired_differences(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How every two methods differ on the same test images.

    Returns:
        one row per pair, the better one `first`: `difference` in accuracy, `low` and `high` of `difference_interval`, and
        `p`, McNemar's exact test (1947), corrected for the number of pairs by Holm (1979).
    """
    right = {method: (table["actual"] == table["predicted"]).to_numpy() for method, table in predictions.items()}
    rows = []
    for pair in combinations(right, 2):
        second, first = sorted(pair, key=lambda method: right[method].mean())
        low, high = difference_interval(right[first], right[second])
        only_first = int((right[first] & ~right[second]).sum())
        only_second = int((right[second] & ~right[first]).sum())
        p = mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue
        difference = (only_first - only_second) / len(right[first])
        rows.append({"first": first, "second": second, "difference": difference, "low": low, "high": high, "p": p})
    found = pd.DataFrame(rows)
    found["p"] = multipletests(found["p"], method="holm")[1]
    return found


def difference_interval(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the difference in accuracy over test images.

    It is the percentile interval of 10,000 resamples of the images; each resample is drawn as its counts of gains, ties and
    losses, which is all of it that the difference depends on.

    Args:
        first, second: (N,) whether each method is right on each image.
    """
    gain = first.astype(int) - second.astype(int)
    shares = [(gain == value).mean() for value in (1, 0, -1)]
    resampled = np.random.default_rng(0).multinomial(len(gain), shares, size=10_000) @ [1, 0, -1] / len(gain)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def class_accuracy(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy on the test images of each class: columns `class`, `method`, `accuracy`, `low`, `high`, `images` (Wilson)."""
    rows = []
    for method, table in predictions.items():
        for name, group in table.groupby("actual"):
            right = int((group["actual"] == group["predicted"]).sum())
            low, high = (round(end, 6) for end in wilson(right, len(group)))
            share = round(right / len(group), 6)
            rows.append([name, method, share, low, high, len(group)])
    return pd.DataFrame(rows, columns=["class", "method", "accuracy", "low", "high", "images"])


def reliability(predicted: pd.DataFrame, bins: int = 15) -> pd.DataFrame:
    """How often predictions of about the same confidence are right (Guo et al. 2017, equations 1 and 2).

    Returns:
        one row per bin of equal width that holds predictions: `confidence` and `accuracy`, both means, `images`, and `low` and
        `high`, Wilson's interval of the accuracy.
    """
    right = predicted["actual"] == predicted["predicted"]
    number = np.clip(np.ceil(predicted["confidence"] * bins), 1, bins)
    groups = pd.DataFrame({"confidence": predicted["confidence"], "accuracy": right}).groupby(number)
    table = groups.mean().assign(images=groups.size()).reset_index(drop=True)
    table[["low", "high"]] = [
        np.round(wilson(round(row.accuracy * row.images), row.images), 6) for row in table.itertuples()
    ]
    return table


def calibration_error(predicted: pd.DataFrame, bins: int = 15) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy (Guo et al. 2017, equation 3)."""
    table = reliability(predicted, bins)
    return float(((table["confidence"] - table["accuracy"]).abs() * table["images"]).sum() / table["images"].sum())


def mean_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of a mean over two or more draws (Student's t)."""
    mean, error = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
    reach = float(t.ppf(0.975, len(values) - 1) * error)
    return float(mean) - reach, float(mean) + reach


def efficiency_table(study: dict[float, dict]) -> pd.DataFrame:
    """Accuracy against labels, one row per ratio and method, fewest labels first.

    Args:
        study: ratio to the content of `metrics/study/<ratio>.json`.

    Returns:
        columns `ratio`, `labels`, `method`, `accuracy`, `low`, `high`, `error`, `seeds`. For one draw of labels the interval is
        Wilson's over test images and `error` the binomial standard error; for several it is that of `mean_interval`, and `error`
        is the standard error of the mean over draws.
    """
    rows = []
    for ratio, methods in sorted(study.items()):
        for method, found in methods.items():
            share, seeds, total = found["accuracy"], found["seeds"], found["test_images"]
            if seeds == 1:
                low, high = wilson(round(share * total), total)
                error = (share * (1 - share) / total) ** 0.5
            else:
                low, high = mean_interval(found["draws"])
                error = float(np.std(found["draws"], ddof=1)) / seeds**0.5
            low, high = round(max(low, 0.0), 6), round(min(high, 1.0), 6)
            rows.append([ratio, found["labels"], method, share, low, high, round(error, 6), seeds])
    return pd.DataFrame(rows, columns=["ratio", "labels", "method", "accuracy", "low", "high", "error", "seeds"])


def by_method(efficiency: pd.DataFrame) -> pd.DataFrame:
    """The table of `efficiency_table` with a row per ratio: `ratio`, `labels`, `seeds`, and `<method>`, `<method>_low`, `<method>_high`."""
    wide = efficiency.pivot(index=["ratio", "labels", "seeds"], columns="method", values=["accuracy", "low", "high"])
    methods = efficiency["method"].unique()
    wide.columns = [method if what == "accuracy" else f"{method}_{what}" for what, method in wide.columns]
    return wide[[f"{m}{end}" for m in methods for end in ("", "_low", "_high")]].reset_index()


def labels_needed(efficiency: pd.DataFrame, method: str, baseline: str) -> pd.DataFrame:
    """How many labels `baseline` needs for what `method` reaches with fewer, read off the line between its ratios.

    Lines are straight over the logarithm of the number of labels. The 95 % interval is that of 2,000 resamples in which every
    accuracy is drawn anew around its value: by the normal distribution over test images for one draw of labels, by Student's t
    for several. Methods are resampled apart, though they share test images, which makes it a little wider than it need be.

    Args:
        efficiency: see `efficiency_table`.

    Returns:
        one row per ratio: `labels` of the method and `needed`, `low`, `high` of the baseline; infinity where the baseline
        does not get there within the study, 0 where it is beyond already with the fewest.
    """
    ours = efficiency[efficiency["method"] == method]
    base = efficiency[efficiency["method"] == baseline]
    at = np.log(base["labels"].to_numpy(float))
    rng = np.random.default_rng(0)
    curves = _resampled(base, rng)
    rows = []
    for number, targets in enumerate(_resampled(ours, rng).T):
        needed = _crossing(at, base[["accuracy"]].to_numpy().T, ours["accuracy"].to_numpy()[[number]])[0]
        resamples = _crossing(at, curves, targets)
        low = np.quantile(resamples, 0.025, method="lower")
        high = np.quantile(resamples, 0.975, method="higher")
        rows.append([int(ours["labels"].iloc[number]), float(needed), float(low), float(high)])
    return pd.DataFrame(rows, columns=["labels", "needed", "low", "high"])


def _resampled(rows: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.float64]:
    """(2000, R) accuracies drawn around those of R rows of the efficiency table."""
    several = rows["seeds"].to_numpy() > 1
    shape = (2_000, len(rows))
    noise = np.where(
        several, rng.standard_t(np.maximum(rows["seeds"].to_numpy() - 1, 1), shape), rng.standard_normal(shape)
    )
    return rows["accuracy"].to_numpy() + noise * rows["error"].to_numpy()


def _crossing(
    log_labels: NDArray[np.float64], accuracies: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M,) labels at which each of (M, R) accuracy curves over (R,) logarithms of labels first reaches each of (M,) targets."""
    curves = np.maximum.accumulate(accuracies, axis=1)
    rows = np.arange(len(curves))
    right = (curves < targets[:, None]).sum(1).clip(min(1, len(log_labels) - 1), len(log_labels) - 1)
    left = np.maximum(right - 1, 0)
    rise = curves[rows, right] - curves[rows, left]
    share = (targets - curves[rows, left]) / np.where(rise > 0, rise, 1)
    labels = np.exp(log_labels[left] + np.clip(share, 0, 1) * (log_labels[right] - log_labels[left]))
    labels = np.where(targets > curves[:, -1], np.inf, labels)
    return np.where(targets < curves[:, 0], 0.0, labels)
