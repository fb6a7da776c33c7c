"""Statistics of the comparison: differences on the same test images, classes, calibration, label efficiency."""

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from stages.learning.evaluation import wilson


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
        one row per bin of equal width that holds predictions: `confidence` and `accuracy`, both means, and `images`.
    """
    right = predicted["actual"] == predicted["predicted"]
    number = np.clip(np.ceil(predicted["confidence"] * bins), 1, bins)
    groups = pd.DataFrame({"confidence": predicted["confidence"], "accuracy": right}).groupby(number)
    return groups.mean().assign(images=groups.size()).reset_index(drop=True)


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
        columns `ratio`, `labels`, `method`, `accuracy`, `low`, `high`, `seeds`; the interval is Wilson's over test images for
        one draw of labels, and that of `mean_interval` over several.
    """
    rows = []
    for ratio, methods in sorted(study.items()):
        for method, found in methods.items():
            share, seeds = found["accuracy"], found["seeds"]
            total = found["test_images"]
            low, high = wilson(round(share * total), total) if seeds == 1 else mean_interval(found["draws"])
            low, high = round(max(low, 0.0), 6), round(min(high, 1.0), 6)
            rows.append([ratio, found["labels"], method, share, low, high, seeds])
    return pd.DataFrame(rows, columns=["ratio", "labels", "method", "accuracy", "low", "high", "seeds"])


def labels_needed(efficiency: pd.DataFrame, method: str, baseline: str) -> pd.DataFrame:
    """How many labels `baseline` needs for what `method` reaches with fewer, read off the line between its ratios.

    Lines are straight over the logarithm of the number of labels. The interval holds what the intervals of both methods
    allow together, so it errs on the wide side.

    Args:
        efficiency: see `efficiency_table`.

    Returns:
        one row per ratio: `labels` of the method and `needed`, `low`, `high` of the baseline; infinity where the baseline
        does not get there within the study, 0 where it is beyond already with the fewest.
    """
    ours = efficiency[efficiency["method"] == method]
    base = efficiency[efficiency["method"] == baseline]
    at = base["labels"].to_numpy(float)
    return pd.DataFrame(
        {
            "labels": ours["labels"].to_numpy(),
            "needed": [_crossing(at, base["accuracy"], share) for share in ours["accuracy"]],
            "low": [_crossing(at, base["high"], share) for share in ours["low"]],
            "high": [_crossing(at, base["low"], share) for share in ours["high"]],
        }
    )


def _crossing(labels: NDArray[np.float64], accuracy: pd.Series, target: float) -> float:
    curve = np.maximum.accumulate(accuracy.to_numpy())
    if target > curve[-1]:
        return float("inf")
    if target < curve[0]:
        return 0.0
    return float(np.exp(np.interp(target, curve, np.log(labels))))
