"""The comparison in tables and sentences; every sentence follows from the table beside it."""

from dataclasses import dataclass

import pandas as pd

from stages.evaluation.accuracy import describe, format_interval
from stages.evaluation.statistics import MethodScore
from stages.reporting.records import TITLES, TrainingCost

CAVEAT = (
    "Intervals and p-values cover the sampling of test images for these trained classifiers; another random seed would "
    "train different ones. They compare classifiers after the steps that params.yaml sets, not methods trained until "
    "more steps no longer help: a method that is stopped early looks worse than it is."
)


@dataclass(frozen=True)
class Results:
    """Everything that the comparison is about.

    Attributes:
        predictions: Test predictions of each method.
        scores: Score of each method, the content of `metrics/compare.json`.
        differences: Result of `paired_differences`.
        efficiency: Result of `efficiency_table`.
        labels_needed: Result of `labels_needed` of semi-supervised against supervised.
        representation: Metrics of the representation, one row per checkpoint of pretraining.
        histories: Training curve of each training run.
        costs: Cost of each training run.
    """

    predictions: dict[str, pd.DataFrame]
    scores: dict[str, MethodScore]
    differences: pd.DataFrame
    efficiency: pd.DataFrame
    labels_needed: pd.DataFrame
    representation: pd.DataFrame
    histories: dict[str, pd.DataFrame]
    costs: dict[str, TrainingCost]


def comparison_page(results: Results) -> str:
    """Return the comparison as Markdown: accuracies, paired differences, label efficiency, and what they mean."""
    any_score = next(iter(results.scores.values()))
    basis = f"{any_score['test_images']:,} test images with {any_score['labels']:,} visible labels"
    paragraphs = [
        "# Comparison",
        f"Top-1 accuracy on {basis}, one training run each.",
        accuracy_table(results.scores).to_markdown(index=False),
        pairs_table(results.differences).to_markdown(index=False),
        _bullets(difference_sentences(results.differences)),
        CAVEAT,
        f"Accuracy by number of labels ({draws_phrase(results.efficiency)}):",
        labels_table(results.efficiency).to_markdown(index=False),
        _bullets(labels_sentences(results.labels_needed, results.efficiency)),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def accuracy_table(scores: dict[str, MethodScore]) -> pd.DataFrame:
    """Return accuracy and calibration of each method as text."""
    return pd.DataFrame(
        {
            "method": [TITLES[method] for method in scores],
            "test accuracy (95 % CI)": [describe(score) for score in scores.values()],
            "expected calibration error": [f"{score['ece']:.1%}" for score in scores.values()],
        }
    )


def pairs_table(differences: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `paired_differences` as text."""
    rows = differences.to_dict("records")
    return pd.DataFrame(
        {
            "difference": [f"{TITLES[row['first']]} over {TITLES[row['second']].lower()}" for row in rows],
            "percentage points (95 % CI)": [
                f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})" for row in rows
            ],
            "p (McNemar, Holm)": [f"{row['p']:.2g}" if row["p"] >= 0.001 else "< 0.001" for row in rows],
        }
    )


def labels_table(efficiency: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracies of `efficiency_table` as text, a row per number of labels and a column per method."""
    intervals = zip(efficiency["accuracy"], efficiency["low"], efficiency["high"], strict=True)
    table = efficiency.assign(
        method=efficiency["method"].map(TITLES), text=[format_interval(*interval) for interval in intervals]
    )
    wide = table.pivot(index=["ratio", "labels"], columns="method", values="text")[list(TITLES.values())]
    return wide.rename_axis(columns=None).reset_index("labels").reset_index(drop=True)


def draws_phrase(efficiency: pd.DataFrame) -> str:
    """Say how many draws of visible labels the study rests on, and what its intervals cover."""
    seeds = int(efficiency["seeds"].max())
    if seeds == 1:
        return "one draw of visible labels; intervals are over test images"
    return f"mean of {seeds} draws of visible labels, each with its own training run; intervals are over draws"


def difference_sentences(differences: pd.DataFrame) -> list[str]:
    """Say of each pair of methods which one is better and by how much, or that there is no significant difference.

    A difference is significant if the corrected p-value is below 0.05 and the interval of the difference is above zero.
    """
    sentences = []
    for row in differences.to_dict("records"):
        first, second = TITLES[row["first"]], TITLES[row["second"]].lower()
        if row["p"] < 0.05 and row["low"] > 0:
            low, high = 100 * row["low"], 100 * row["high"]
            sentences.append(
                f"{first} outperforms {second} on these test images, by {low:.1f} to {high:.1f} percentage points."
            )
        else:
            sentences.append(f"{first} and {second} do not differ significantly on these test images.")
    return sentences


def labels_sentences(labels_needed: pd.DataFrame, efficiency: pd.DataFrame) -> list[str]:
    """Say for each number of labels how many supervised training needs to match semi-supervised training."""
    fewest, most = (int(number) for number in efficiency["labels"].agg(["min", "max"]))

    def count(labels: float) -> str:
        if labels == 0:
            return f"fewer than {fewest:,}"
        return f"more than {most:,}" if labels == float("inf") else f"{labels:,.0f}"

    sentences = []
    for row in labels_needed.to_dict("records"):
        low, high = count(row["low"]), count(row["high"])
        interval = low if low == high else f"{low} to {high}"
        sentences.append(
            f"To match semi-supervised with {row['labels']:,} labels, supervised needs {count(row['needed'])} labels "
            f"(95 % CI: {interval}; {fewest:,} to {most:,} labels were tested)."
        )
    return sentences
