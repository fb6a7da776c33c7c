"""The comparison in words and numbers; every sentence follows from the table beside it."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from stages.reporting.records import TITLES, describe


def paired_differences(predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How every two methods differ on the same test images.

    Returns:
        one row per pair, the better one `first`: `difference` in accuracy with a 95 % bootstrap interval over test images
        (`low`, `high`; Efron 1987, 2,000 resamples) and `p`, McNemar's exact test (1947), corrected for the number of pairs
        by Holm (1979).
    """
    right = {method: (table["actual"] == table["predicted"]).to_numpy() for method, table in predictions.items()}
    rows = []
    for pair in combinations(right, 2):
        second, first = sorted(pair, key=lambda method: right[method].mean())
        gain = right[first].astype(float) - right[second].astype(float)
        low, high = gain.mean(), gain.mean()
        if gain.std() > 0:
            interval = bootstrap((gain,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
            low, high = interval.confidence_interval
        table = pd.crosstab(
            pd.Categorical(right[first], [False, True]), pd.Categorical(right[second], [False, True]), dropna=False
        )
        p = mcnemar(table.to_numpy(), exact=True).pvalue
        rows.append({"first": first, "second": second, "difference": gain.mean(), "low": low, "high": high, "p": p})
    found = pd.DataFrame(rows)
    found["p"] = multipletests(found["p"], method="holm")[1]
    return found


def comparison_page(rows: dict[str, dict], differences: pd.DataFrame, study: pd.DataFrame) -> str:
    """The comparison as Markdown: accuracies, paired differences, label efficiency, and what they mean."""
    any_row = next(iter(rows.values()))
    table = pd.DataFrame(
        {
            "method": [TITLES[method] for method in rows],
            "test accuracy (95 % interval)": [describe(row) for row in rows.values()],
            "labels": [row["labels"] for row in rows.values()],
        }
    )
    pairs = pd.DataFrame(
        {
            "difference": [
                f"{TITLES[row.first]} over {TITLES[row.second].lower()}" for row in differences.itertuples()
            ],
            "points (95 % interval)": [
                f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
                for row in differences.itertuples()
            ],
            "p (McNemar, Holm)": [f"{row.p:.2g}" if row.p >= 0.001 else "< 0.001" for row in differences.itertuples()],
        }
    )
    efficiency = study.assign(method=study["method"].map(TITLES), text=[f"{a:.1%}" for a in study["accuracy"]]).pivot(
        index="labels", columns="method", values="text"
    )[list(TITLES.values())]
    seeds = int(study["seeds"].max())
    draws = "one draw of visible labels" if seeds == 1 else f"the mean of {seeds} draws of visible labels"
    return "\n".join(
        [
            "# Comparison",
            "",
            f"Top-1 accuracy on {any_row['test_images']:,} test images with {any_row['labels']:,} visible labels, one training run each.",
            "",
            table.to_markdown(index=False),
            "",
            pairs.to_markdown(index=False),
            "",
            *(_sentence(row) for row in differences.itertuples()),
            "",
            "Intervals and p-values speak of other test images for these trained classifiers; another seed would train others.",
            "",
            f"Accuracy by number of labels ({draws}):",
            "",
            efficiency.reset_index().to_markdown(index=False),
            "",
        ]
    )


def _sentence(row) -> str:
    first, second = TITLES[row.first], TITLES[row.second].lower()
    if row.p < 0.05 and row.low > 0:
        return (
            f"- {first} is better than {second} on these images, by {100 * row.low:.1f} to {100 * row.high:.1f} points."
        )
    return f"- {first} and {second} cannot be told apart on these images."
