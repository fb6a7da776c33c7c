"""The comparison in words and numbers; every sentence follows from the table beside it."""

import pandas as pd

from stages.reporting.records import TITLES, describe


def comparison_page(
    rows: dict[str, dict], differences: pd.DataFrame, efficiency: pd.DataFrame, needed: pd.DataFrame
) -> str:
    """The comparison as Markdown: accuracies, paired differences, label efficiency, and what they mean.

    Args:
        rows: method to the content of `metrics/compare.json`.
        differences: see `paired_differences`.
        efficiency: see `efficiency_table`.
        needed: see `labels_needed`, of semi-supervised against supervised.
    """
    any_row = next(iter(rows.values()))
    table = pd.DataFrame(
        {
            "method": [TITLES[method] for method in rows],
            "test accuracy (95 % interval)": [describe(row) for row in rows.values()],
            "calibration error": [f"{row['ece']:.1%}" for row in rows.values()],
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
    by_labels = efficiency.assign(
        method=efficiency["method"].map(TITLES),
        text=[f"{row.accuracy:.1%} ({row.low:.1%} to {row.high:.1%})" for row in efficiency.itertuples()],
    ).pivot(index="labels", columns="method", values="text")[list(TITLES.values())]
    seeds = int(efficiency["seeds"].max())
    draws = (
        "one draw of visible labels; intervals are over test images"
        if seeds == 1
        else f"mean of {seeds} draws of visible labels, each with its own training; intervals are over draws"
    )
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
            by_labels.reset_index().to_markdown(index=False),
            "",
            *(_needed_sentence(row, *efficiency["labels"].agg(["min", "max"])) for row in needed.itertuples()),
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


def _needed_sentence(row, fewest: int, most: int) -> str:
    def count(labels: float) -> str:
        if labels == 0:
            return f"fewer than {fewest:,}"
        return f"more than {most:,}" if labels == float("inf") else f"{labels:,.0f}"

    low, high = count(row.low), count(row.high)
    interval = low if low == high else f"{low} to {high}"
    return (
        f"- What semi-supervised reaches with {row.labels:,} labels takes supervised {count(row.needed)} labels "
        f"(95 % interval: {interval}; {fewest:,} to {most:,} were tried)."
    )
