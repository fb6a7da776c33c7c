"""Figures of the comparison: accuracy, label efficiency, calibration, confusion matrices, training losses."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import confusion_matrix

from stages.evaluation.accuracy import Score
from stages.evaluation.statistics import MethodScore, reliability
from stages.reporting.comparison import Runs
from stages.reporting.figures.style import (
    METHOD_COLOURS,
    METHOD_LINES,
    METHOD_MARKERS,
    letter_width,
    new_axes,
    new_panels,
    short_names,
)
from stages.reporting.records import TITLES, TRAINING_TITLES

_NAMED_CLASSES = 40


def accuracy_figure(scores: Mapping[str, Score], runs: Runs | None) -> Figure:
    """Draw the test accuracy of each method with its 95 % interval, on an axis that is the same for all results.

    Args:
        scores: Score of each method in this run, drawn if there are no other runs.
        runs: Runs with other seeds, drawn as a mean over them and a point for each.
    """
    figure, axes = new_axes(height=2.8)
    for place, (method, score) in enumerate(scores.items()):
        accuracy, (low, high) = score["accuracy"], score["ci95"]
        if runs is not None:
            summary = runs.accuracy[method]
            accuracy, low, high = summary["mean"], summary["low"], summary["high"]
            places = np.full(len(runs.seeds), place + 0.22)
            axes.scatter(summary["values"], places, s=14, color=METHOD_COLOURS[method], alpha=0.7, linewidth=0)
        axes.errorbar(
            accuracy,
            place,
            xerr=[[accuracy - low], [high - accuracy]],
            fmt=METHOD_MARKERS[method],
            color=METHOD_COLOURS[method],
            capsize=5,
            markersize=9,
            linewidth=2.5,
        )
        axes.annotate(
            f"{accuracy:.1%}", (accuracy, place), (0, 12), textcoords="offset points", ha="center", weight="bold"
        )

    any_score = next(iter(scores.values()))
    what = "with 95 % Wilson interval" if runs is None else f"mean of {len(runs.seeds)} runs, with 95 % CI; dots: runs"
    axes.set(
        yticks=range(len(scores)),
        yticklabels=[TITLES[method] for method in scores],
        xlim=(0, 1),
        ylim=(len(scores) - 0.5, -0.7),
        xlabel=f"test accuracy (top-1, {what})",
        title=f"{any_score['labels']:,} visible labels, {any_score['test_images']:,} test images",
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def cost_figure(scores: Mapping[str, Score], seconds: Mapping[str, float]) -> Figure:
    """Draw the test accuracy of each method over its training time.

    Args:
        scores: Score of each method.
        seconds: Duration of training of each method, that of pretraining included where it builds on it.
    """
    figure, axes = new_axes(height=3.4)
    for method, score in scores.items():
        accuracy, (low, high) = score["accuracy"], score["ci95"]
        axes.errorbar(
            seconds[method],
            accuracy,
            yerr=[[accuracy - low], [high - accuracy]],
            fmt=METHOD_MARKERS[method],
            color=METHOD_COLOURS[method],
            label=TITLES[method],
            capsize=4,
            markersize=9,
        )

    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(
        xlim=(0, 1.08 * max(seconds.values())),
        ylim=(0, 1),
        xlabel="training time in seconds, pretraining included",
        ylabel="test accuracy (95 % CI)",
        title="Accuracy over training time",
    )
    axes.legend(loc="lower right", frameon=True)
    return figure


def efficiency_figure(efficiency: pd.DataFrame) -> Figure:
    """Draw test accuracy against number of visible labels, one line per method with its spread as a band.

    Args:
        efficiency: Result of `efficiency_table` or of `efficiency_over_runs`.
    """
    return accuracy_lines(efficiency, "labels", "visible labels (logarithmic scale)", "Label efficiency")


def accuracy_lines(table: pd.DataFrame, x: str, x_label: str, title: str) -> Figure:
    """Draw test accuracy over a logarithmic axis, one line per method with its interval as a band.

    The axis is linear up to the smallest positive number if there is a zero, and has equal distances if there is text.

    Args:
        table: Columns `method`, `accuracy`, `low`, `high`, and the one named by `x`.
        x: Name of the column on the horizontal axis, in whose order the rows are.
        x_label: Label of the horizontal axis.
        title: Title of the figure.
    """
    figure, axes = new_axes()
    ticks = list(table[x].unique())
    numeric = pd.api.types.is_numeric_dtype(table[x])
    places = dict(zip(ticks, ticks if numeric else range(len(ticks)), strict=True))
    for method in table["method"].unique():
        rows = table[table["method"] == method]
        at = [places[value] for value in rows[x]]
        axes.plot(
            at,
            rows["accuracy"],
            marker=METHOD_MARKERS[method],
            linestyle=METHOD_LINES[method],
            color=METHOD_COLOURS[method],
            label=TITLES[method],
            linewidth=2.2,
        )
        axes.fill_between(at, rows["low"], rows["high"], color=METHOD_COLOURS[method], alpha=0.15, linewidth=0)

    axes.set_ylim(0, 1)
    if numeric and min(ticks) > 0:
        axes.set_xscale("log")
    elif numeric:
        axes.set_xscale("symlog", linthresh=min((tick for tick in ticks if tick > 0), default=1))
    axes.set_xticks(list(places.values()), [tick if isinstance(tick, str) else f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel=x_label, ylabel="test accuracy (top-1)", title=title)
    axes.legend(loc="lower right", frameon=True)
    return figure


def class_figure(classes: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draw the test accuracy of each class and method with its 95 % interval; axes are the same for all results.

    Args:
        classes: Result of `class_accuracy`.
        names: Names of the classes in the order in which they are drawn; those without a test image are left out.
    """
    order = [name for name in names if name in set(classes["class"])]
    methods = classes["method"].unique()
    shown = short_names(order)
    longest = max(map(letter_width, shown))
    upright = len(order) > 10 or longest > 12
    width, height = min(max(7.0, 0.8 * len(order) + 2), 40.0), 4.2 + (0.09 * longest if upright else 0)
    figure, axes = new_axes(width, height)
    for number, method in enumerate(methods):
        rows = classes[classes["method"] == method].set_index("class").loc[order]
        places = np.arange(len(order)) + (number - (len(methods) - 1) / 2) * 0.16
        axes.errorbar(
            places,
            rows["accuracy"],
            yerr=[rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]],
            fmt=METHOD_MARKERS[method],
            color=METHOD_COLOURS[method],
            label=TITLES[method],
            markersize=5,
            linewidth=1.4,
        )

    axes.set_xticks(range(len(order)), shown, rotation=90 if upright else 20)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylabel="test accuracy (95 % CI)", title="Accuracy by class", ylim=(-0.02, 1.02))
    figure.legend(loc="outside lower center", ncols=len(methods), frameon=False)
    return figure


def calibration_figure(predictions: dict[str, pd.DataFrame], scores: Mapping[str, MethodScore]) -> Figure:
    """Draw a reliability diagram for each method; the area of a point grows with the number of images in its bin.

    Args:
        predictions: Predictions of each method.
        scores: Score of each method.
    """
    figure, panels = new_panels(len(predictions), 3.6, 3.9)
    for axes, (method, table) in zip(panels, predictions.items(), strict=True):
        points, colour = reliability(table), METHOD_COLOURS[method]
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        axes.errorbar(
            points["confidence"],
            points["accuracy"],
            yerr=[points["accuracy"] - points["low"], points["high"] - points["accuracy"]],
            fmt="none",
            color=colour,
            linewidth=1.2,
        )
        area = 14 + 180 * points["images"] / points["images"].sum()
        axes.scatter(points["confidence"], points["accuracy"], s=area, marker=METHOD_MARKERS[method], color=colour)

        axes.set(
            title=f"{TITLES[method]}\nECE {scores[method]['ece']:.1%}",
            xlabel="confidence",
            ylabel="accuracy (95 % CI)",
            xlim=(0, 1.04),
            ylim=(-0.03, 1.03),
            aspect="equal",
            xticks=[0, 0.5, 1],
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.suptitle("Grey line: perfect calibration")
    return figure


def confusion_figure(predictions: dict[str, pd.DataFrame]) -> Figure:
    """Draw the confusion matrix of each method, each row normalised by the number of images of the true class.

    Args:
        predictions: Predictions of each method.
    """
    classes = sorted({name for table in predictions.values() for name in (*table["actual"], *table["predicted"])})
    side = max(1.7, min(0.42 * len(classes), 12))
    ticks, names, key = range(len(classes)), short_names(classes), ""
    if len(classes) > _NAMED_CLASSES:
        ticks = range(0, len(classes), -(-len(classes) // 20))
        names, key = [f"{tick + 1}" for tick in ticks], " (number in alphabetical order)"
    margin = 0.9 + 0.095 * max(map(letter_width, names))

    figure, panels = new_panels(len(predictions), side + margin, side + margin)
    for axes, (method, table) in zip(panels, predictions.items(), strict=True):
        sns.heatmap(
            confusion_matrix(table["actual"], table["predicted"], labels=classes, normalize="true"),
            ax=axes,
            vmin=0,
            vmax=1,
            cmap="Blues",
            square=True,
            cbar=False,
            xticklabels=False,
            yticklabels=False,
        )
        axes.set(title=TITLES[method], xlabel=f"predicted class{key}", ylabel="true class")
        axes.set_xticks([tick + 0.5 for tick in ticks], names, rotation=90)
        axes.set_yticks([tick + 0.5 for tick in ticks], names, rotation=0)

    percent = PercentFormatter(1, decimals=0)
    figure.colorbar(panels[0].collections[0], ax=panels, format=percent, shrink=0.5, label="share of the true class")
    return figure


def curves_figure(histories: dict[str, pd.DataFrame], redundancy_floor: float) -> Figure:
    """Draw the training losses of each training run, in total and by term.

    Args:
        histories: Training curve of each run, with the step or epoch in the first column; see `read_history`.
        redundancy_floor: Redundancy in pretraining if all dimensions were independent: the correlations of a finite
            batch are not zero.
    """
    figure, panels = new_panels(len(histories), 4.6, 3.2)
    for axes, (stage, rows) in zip(panels, histories.items(), strict=True):
        steps = str(rows.columns[0])
        terms = [name for name in rows.columns[1:] if name != "learning_rate"]
        if len(terms) == 2:  # A single term equals the total.
            terms = terms[:1]
        for term, style in zip(terms, cycle(("-", "--", ":", "-.", (0, (5, 1))))):
            axes.plot(rows[steps], rows[term], linestyle=style, label=term.replace("_", " "), linewidth=2)
        if stage == "pretrain":
            axes.axhline(redundancy_floor, color="0.6", linewidth=1, label="floor of redundancy")

        headroom = 1.5 if len(terms) > 1 else 1.05
        top = headroom * float(rows[terms].to_numpy().max())
        axes.set(title=TRAINING_TITLES[stage], xlabel=steps, ylabel="training loss", ylim=(0, top))
        if len(terms) > 1:
            axes.legend(loc="upper right", ncols=2, frameon=False)
    return figure
