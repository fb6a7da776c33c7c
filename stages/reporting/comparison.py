"""The comparison in words and numbers; every sentence follows from the table beside it."""

import pandas as pd

from stages.reporting.records import TITLES, describe

CAVEAT = (
    "Intervals and p-values speak of other test images for these trained classifiers; another seed would train others."
)


def accuracy_table(rows: dict[str, dict]) -> pd.DataFrame:
    """Accuracy and calibration of each method, in words; `rows` is the content of `metrics/compare.json`."""
    return pd.DataFrame(
        {
            "method": [TITLES[method] for method in rows],
            "test accuracy (95 % interval)": [describe(row) for row in rows.values()],
            "calibration error": [f"{row['ece']:.1%}" for row in rows.values()],
        }
    )


def pairs_table(differences: pd.DataFrame) -> pd.DataFrame:
    """Paired differences in words; see `paired_differences`."""
    rows = list(differences.itertuples())
    return pd.DataFrame(
        {
            "difference": [f"{TITLES[row.first]} over {TITLES[row.second].lower()}" for row in rows],
            "points (95 % interval)": [
                f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})" for row in rows
            ],
            "p (McNemar, Holm)": [f"{row.p:.2g}" if row.p >= 0.001 else "< 0.001" for row in rows],
        }
    )


def labels_table(efficiency: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by number of labels in words, a column per method; see `efficiency_table`."""
    texts = [f"{row.accuracy:.1%} ({row.low:.1%} to {row.high:.1%})" for row in efficiency.itertuples()]
    table = efficiency.assign(method=efficiency["method"].map(TITLES), text=texts)
    wide = table.pivot(index=["ratio", "labels"], columns="method", values="text")[list(TITLES.values())]
    return wide.rename_axis(columns=None).reset_index("labels").reset_index(drop=True)


def draws_in_words(efficiency: pd.DataFrame) -> str:
    """What the intervals of the study are about."""
    seeds = int(efficiency["seeds"].max())
    if seeds == 1:
        return "one draw of visible labels; intervals are over test images"
    return f"mean of {seeds} draws of visible labels, each with its own training; intervals are over draws"


def findings(differences: pd.DataFrame) -> list[str]:
    """One sentence for each pair of methods: which is better and by how much, or that they cannot be told apart."""
    return [_finding(row) for row in differences.itertuples()]


def _finding(row) -> str:
    first, second = TITLES[row.first], TITLES[row.second].lower()
    if row.p < 0.05 and row.low > 0:
        return (
            f"{first} is better than {second} on these images, by {100 * row.low:.1f} to {100 * row.high:.1f} points."
        )
    return f"{first} and {second} cannot be told apart on these images."


def needs(needed: pd.DataFrame, efficiency: pd.DataFrame) -> list[str]:
    """One sentence for each number of labels: how many supervised needs for what semi-supervised reaches with it."""
    fewest, most = efficiency["labels"].agg(["min", "max"])
    return [_needed_sentence(row, fewest, most) for row in needed.itertuples()]


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
    return "\n".join(
        [
            "# Comparison",
            "",
            f"Top-1 accuracy on {any_row['test_images']:,} test images with {any_row['labels']:,} visible labels, one training run each.",
            "",
            accuracy_table(rows).to_markdown(index=False),
            "",
            pairs_table(differences).to_markdown(index=False),
            "",
            *(f"- {sentence}" for sentence in findings(differences)),
            "",
            CAVEAT,
            "",
            f"Accuracy by number of labels ({draws_in_words(efficiency)}):",
            "",
            labels_table(efficiency).to_markdown(index=False),
            "",
            *(f"- {sentence}" for sentence in needs(needed, efficiency)),
            "",
        ]
    )


def _needed_sentence(row, fewest: int, most: int) -> str:
    def count(labels: float) -> str:
        if labels == 0:
            return f"fewer than {fewest:,}"
        return f"more than {most:,}" if labels == float("inf") else f"{labels:,.0f}"

    low, high = count(row.low), count(row.high)
    interval = low if low == high else f"{low} to {high}"
    return (
        f"What semi-supervised reaches with {row.labels:,} labels takes supervised {count(row.needed)} labels "
        f"(95 % interval: {interval}; {fewest:,} to {most:,} were tried)."
    )
