"""The comparison in tables and sentences; every sentence follows from the table beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.evaluation.accuracy import correct, describe, format_interval
from stages.evaluation.statistics import (
    MethodScore,
    RunsSummary,
    accuracy_over_runs,
    efficiency_over_runs,
    labels_needed,
    paired_differences_over_runs,
)
from stages.reporting.records import TITLES, DataSummary, StudyCost, TrainingCost, method_seconds
from stages.reporting.runs import PipelineRun, unpacked_hits

CAVEAT = (
    "Intervals and p-values of a single run cover the sampling of test images alone, for the classifiers that this run "
    "has trained. Another pretraining or another draw of labels trains others, so one run does not tell which method "
    "is better."
)
ONE_RUN = "This is a single run. `make seeds` repeats the whole pipeline with other seeds."


@dataclass(frozen=True)
class Runs:
    """Whole pipelines with the same parameters and different seeds, two at least.

    Attributes:
        seeds: Seed of each run.
        labels: Number of visible labels.
        test_images: Number of test images.
        accuracy: Summary of each method.
        differences: Result of `paired_differences_over_runs`.
        efficiency: Result of `efficiency_over_runs`.
        needed: How many labels supervised needs to match semi-supervised with `labels`, in each run.
        seconds: Mean duration of training of each method, pretraining included where it builds on it.
    """

    seeds: list[int]
    labels: int
    test_images: int
    accuracy: dict[str, RunsSummary]
    differences: pd.DataFrame
    efficiency: pd.DataFrame
    needed: list[float]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Results:
    """Everything that the comparison is about.

    Attributes:
        seed: The parameter `seed` of this run.
        predictions: Test predictions of each method.
        scores: Score of each method, the content of `metrics/compare.json`.
        differences: Result of `paired_differences`.
        efficiency: Result of `efficiency_table`.
        runs: Runs with other seeds too, or None if there are none.
        warnings: Sentences about what may mislead, such as a method that was stopped early.
        from_random: Whether semi-supervised training starts from random weights.
        representation: Metrics of the representation, one row per checkpoint of pretraining.
        histories: Training curve of each training run.
        costs: Cost of each training run.
        study_costs: Cost of the study at each label ratio.
        data: What is in the image set.
        copies: Table of copies among the images.
    """

    seed: int
    predictions: dict[str, pd.DataFrame]
    scores: dict[str, MethodScore]
    differences: pd.DataFrame
    efficiency: pd.DataFrame
    runs: Runs | None
    warnings: list[str]
    from_random: bool
    representation: pd.DataFrame
    histories: dict[str, pd.DataFrame]
    costs: dict[str, TrainingCost]
    study_costs: dict[float, StudyCost]
    data: DataSummary
    copies: pd.DataFrame


def summarise_runs(runs: Sequence[PipelineRun], *, from_random: bool) -> Runs | None:
    """Summarise runs that differ in their seed alone; None for fewer than two.

    Args:
        runs: The runs.
        from_random: Whether semi-supervised training starts from random weights.
    """
    if len(runs) < 2:
        return None
    hits = unpacked_hits(runs)
    accuracy = accuracy_over_runs(hits)
    curves = [
        run["study"] | {run["labels"]: {method: summary["values"][number] for method, summary in accuracy.items()}}
        for number, run in enumerate(runs)
    ]
    shared = set.intersection(*(set(curve) for curve in curves))
    curves = [{labels: curve[labels] for labels in shared} for curve in curves]
    seconds = [method_seconds(run["seconds"], from_random=from_random) for run in runs]
    return Runs(
        seeds=[run["seed"] for run in runs],
        labels=runs[0]["labels"],
        test_images=runs[0]["test_images"],
        accuracy=accuracy,
        differences=paired_differences_over_runs(hits),
        efficiency=efficiency_over_runs(curves),
        needed=[_needed(curve, run["labels"]) for curve, run in zip(curves, runs, strict=True)],
        seconds={method: float(np.mean([run[method] for run in seconds])) for method in accuracy},
    )


def _needed(curve: dict[int, dict[str, float]], labels: int) -> float:
    """Return how many labels supervised needs to match semi-supervised with `labels` in one run."""
    numbers = sorted(curve)
    accuracies = [curve[number]["supervised"] for number in numbers]
    return labels_needed(numbers, accuracies, curve[labels]["semi_supervised"])


def comparison_page(results: Results) -> str:
    """Return the comparison as Markdown: over whole pipelines, of this run, by number of labels."""
    any_score = next(iter(results.scores.values()))
    basis = f"{any_score['test_images']:,} test images with {any_score['labels']:,} visible labels"
    paragraphs = ["# Comparison"]
    if results.runs is None:
        paragraphs += [ONE_RUN]
    else:
        paragraphs += [
            "## Over whole pipelines",
            runs_phrase(results.runs),
            runs_table(results.runs).to_markdown(index=False),
            runs_pairs_table(results.runs.differences).to_markdown(index=False),
            _bullets(difference_sentences(results.runs.differences)),
        ]

    paragraphs += [
        "## This run",
        f"Top-1 accuracy on {basis}, seed {results.seed}.",
        accuracy_table(results.scores).to_markdown(index=False),
        pairs_table(results.differences).to_markdown(index=False),
        CAVEAT,
        *([_bullets(results.warnings)] if results.warnings else []),
        "## By number of labels",
        efficiency_phrase(results),
        labels_table(shown_efficiency(results)).to_markdown(index=False),
        labels_sentence(results.runs) if results.runs else "",
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


# Over whole pipelines


def runs_phrase(runs: Runs) -> str:
    """Say what the runs are and what varies between them."""
    seeds = ", ".join(str(seed) for seed in runs.seeds)
    return (
        f"Top-1 accuracy of {len(runs.seeds)} whole pipelines with seeds {seeds}, on {runs.test_images:,} test images "
        f"with {runs.labels:,} visible labels each. Pretraining, draw of labels, training and, if they are generated, "
        "the images differ from run to run; intervals cover all of it and the sampling of test images."
    )


def runs_table(runs: Runs) -> pd.DataFrame:
    """Return mean and spread of each method over the runs as text."""
    summaries = runs.accuracy.values()
    return pd.DataFrame(
        {
            "method": [TITLES[method] for method in runs.accuracy],
            "mean test accuracy (95 % CI)": [format_interval(s["mean"], s["low"], s["high"]) for s in summaries],
            "standard deviation": [f"{s['std']:.1%}" for s in summaries],
            "runs": [", ".join(f"{100 * value:.1f}" for value in s["values"]) for s in summaries],
            "training, pretraining included (s)": [f"{runs.seconds[method]:,.0f}" for method in runs.accuracy],
        }
    )


def runs_pairs_table(differences: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `paired_differences_over_runs` as text."""
    rows = differences.to_dict("records")
    return pd.DataFrame(
        {
            "difference": [_pair(row["first"], row["second"]) for row in rows],
            "percentage points (95 % CI)": [_points(row["difference"], row["low"], row["high"]) for row in rows],
            "runs ahead": [f"{row['ahead']} of {row['runs']}" for row in rows],
            "p (t-test, Holm)": [_p_value(row["p"]) for row in rows],
        }
    )


def difference_sentences(differences: pd.DataFrame) -> list[str]:
    """Say of each pair of methods which one is better and by how much, or that the runs do not tell.

    One is better if it is ahead in every run, the interval of the mean difference is above zero, and the corrected
    p-value is below 0.05.
    """
    sentences = []
    for row in differences.to_dict("records"):
        first, second = TITLES[row["first"]], TITLES[row["second"]].lower()
        low, high = 100 * row["low"], 100 * row["high"]
        if row["ahead"] == row["runs"] and row["low"] > 0 and row["p"] < 0.05:
            sentences.append(
                f"{first} is better than {second}: ahead in each of the {row['runs']} runs, by {low:.1f} to {high:.1f} "
                "percentage points in the mean (95 % CI)."
            )
        else:
            sentences.append(
                f"{first} and {second}: the runs do not tell which is better ({first} is ahead in {row['ahead']} of "
                f"{row['runs']}, by {low:.1f} to {high:.1f} percentage points in the mean)."
            )
    return sentences


def other_result_sentence(seed: int, predictions: dict[str, pd.DataFrame], runs: Sequence[PipelineRun]) -> str:
    """Return a sentence if this run differs from the one with the same seed among `runs`, otherwise an empty text."""
    for run in runs:
        kept = {method: hits[0] for method, hits in unpacked_hits([run]).items()}
        if run["seed"] == seed and any(
            not np.array_equal(correct(predictions[method]), kept[method]) for method in kept
        ):
            return (
                f"The whole pipelines were run with other code or on another machine ({run['device']}, torch "
                f"{run['torch']}): seed {seed} differs from this run. `python -m stages.seeds --forget`, then "
                "`make seeds`, repeats them."
            )
    return ""


# This run


def accuracy_table(scores: dict[str, MethodScore]) -> pd.DataFrame:
    """Return accuracy and calibration of each method as text."""
    return pd.DataFrame(
        {
            "method": [TITLES[method] for method in scores],
            "test accuracy (95 % CI)": [describe(score) for score in scores.values()],
            "expected calibration error": [f"{score['ece']:.1%}" for score in scores.values()],
        }
    )


def whole_seconds(results: Results) -> dict[str, float]:
    """Return the duration of training of each method in this run, pretraining included where it builds on it."""
    return method_seconds(
        {stage: cost["seconds"] for stage, cost in results.costs.items()}, from_random=results.from_random
    )


def pairs_table(differences: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `paired_differences` as text."""
    rows = differences.to_dict("records")
    return pd.DataFrame(
        {
            "difference": [_pair(row["first"], row["second"]) for row in rows],
            "percentage points (95 % CI)": [_points(row["difference"], row["low"], row["high"]) for row in rows],
            "p (McNemar, Holm)": [_p_value(row["p"]) for row in rows],
        }
    )


def _pair(first: str, second: str) -> str:
    return f"{TITLES[first]} over {TITLES[second].lower()}"


def _points(difference: float, low: float, high: float) -> str:
    return f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


# By number of labels


def shown_efficiency(results: Results) -> pd.DataFrame:
    """Return accuracy by number of labels over whole pipelines if there are several, otherwise of this run.

    Runs that lack a number of labels of this run, since it was added later, do not count.
    """
    return results.efficiency if results.runs is None or not _covers(results) else results.runs.efficiency


def _covers(results: Results) -> bool:
    """Return whether the runs with other seeds have all numbers of labels of this run."""
    return results.runs is not None and set(results.efficiency["labels"]) <= set(results.runs.efficiency["labels"])


def efficiency_phrase(results: Results) -> str:
    """Say what accuracy by number of labels rests on, and what is given beside it."""
    if results.runs is not None and _covers(results):
        return f"Mean of {len(results.runs.seeds)} whole pipelines (lowest to highest)."
    draws = int(results.efficiency["seeds"].max())
    if draws == 1:
        return "One draw of visible labels at each number, and a single pretraining: no spread is known."
    return (
        f"Mean of up to {draws} draws of visible labels, or of trainings where all labels are visible (95 % CI over "
        "draws, trainings and test images). All build on a single pretraining, whose share in the spread is not known."
    )


def labels_table(efficiency: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies by number of labels as text, a row per number and a column per method."""
    rows = zip(efficiency["accuracy"], efficiency["low"], efficiency["high"], strict=True)
    texts = [
        f"{accuracy:.1%}" if np.isnan(low) else format_interval(accuracy, low, high) for accuracy, low, high in rows
    ]
    table = efficiency.assign(method=efficiency["method"].map(TITLES), text=texts)
    wide = table.pivot(index="labels", columns="method", values="text")[list(TITLES.values())]
    return wide.rename_axis(columns=None).reset_index()


def labels_sentence(runs: Runs) -> str:
    """Say how many labels supervised training needs to match semi-supervised training; nothing without a study."""
    if runs.efficiency["labels"].nunique() < 2:
        return ""
    fewest, most = (int(number) for number in runs.efficiency["labels"].agg(["min", "max"]))

    def count(labels: float) -> str:
        if labels == 0:
            return f"fewer than {fewest:,}"
        return f"more than {most:,}" if labels == float("inf") else f"{labels:,.0f}"

    middle = float(np.quantile(runs.needed, 0.5, method="inverted_cdf"))
    return (
        f"To match semi-supervised with {runs.labels:,} labels, supervised needs {count(middle)} labels in the median "
        f"of {len(runs.seeds)} runs ({count(min(runs.needed))} to {count(max(runs.needed))}), interpolated between "
        f"{fewest:,} and {most:,} labels."
    )
