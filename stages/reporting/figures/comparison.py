"""Figures of the comparison: accuracy, label efficiency, calibration, confusion matrices, training losses."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.metrics import confusion_matrix

from stages.evaluation.accuracy import Score
from stages.evaluation.statistics import MethodScore, reliability
from stages.reporting.figures.style import METHOD_COLOURS, METHOD_LINES, METHOD_MARKERS, new_axes, new_panels
from stages.reporting.records import TITLES, TRAINING_TITLES


def accuracy_figure(scores: Mapping[str, Score]) -> Figure:
    """Draw the test accuracy of each method with its 95 % interval.

    Args:
        scores: Score of each method.
    """
    figure, axes = new_axes(height=2.8)
    for place, (method, score) in enumerate(scores.items()):
        accuracy, (low, high) = score["accuracy"], score["ci95"]
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
    axes.set(
        yticks=range(len(scores)),
        yticklabels=[TITLES[method] for method in scores],
        ylim=(len(scores) - 0.5, -0.7),
        xlabel="test accuracy (top-1, with 95 % Wilson interval)",
        title=f"{any_score['labels']:,} visible labels, {any_score['test_images']:,} test images",
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def efficiency_figure(efficiency: pd.DataFrame) -> Figure:
    """Draw test accuracy against number of visible labels, one line per method with its interval as a band.

    Args:
        efficiency: Result of `efficiency_table`.
    """
    return accuracy_lines(efficiency, "labels", "visible labels (logarithmic scale)", "Label efficiency")


def accuracy_lines(table: pd.DataFrame, x: str, x_label: str, title: str) -> Figure:
    """Draw test accuracy over a logarithmic axis, one line per method with its interval as a band.

    Args:
        table: Columns `method`, `accuracy`, `low`, `high`, and the one named by `x`.
        x: Name of the column of positive numbers on the horizontal axis.
        x_label: Label of the horizontal axis.
        title: Title of the figure.
    """
    figure, axes = new_axes()
    for method in table["method"].unique():
        rows = table[table["method"] == method]
        axes.plot(
            rows[x],
            rows["accuracy"],
            marker=METHOD_MARKERS[method],
            linestyle=METHOD_LINES[method],
            color=METHOD_COLOURS[method],
            label=TITLES[method],
            linewidth=2.2,
        )
        axes.fill_between(rows[x], rows["low"], rows["high"], color=METHOD_COLOURS[method], alpha=0.15, linewidth=0)

    axes.set_xscale("log")
    ticks = sorted(table[x].unique())
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel=x_label, ylabel="test accuracy (top-1)", title=title)
    axes.legend(loc="lower right", frameon=True)
    return figure


def class_figure(classes: pd.DataFrame) -> Figure:
    """Draw the test accuracy of each class and method with its 95 % interval, easiest class first by the methods' mean.

    Args:
        classes: Result of `class_accuracy`.
    """
    order = classes.groupby("class")["accuracy"].mean().sort_values(ascending=False).index
    methods = classes["method"].unique()
    figure, axes = new_axes(width=min(max(7.0, 0.8 * len(order) + 2), 40.0))
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

    axes.set_xticks(range(len(order)), order.tolist(), rotation=90 if len(order) > 10 else 20)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylabel="test accuracy (95 % CI)", title="Accuracy by class")
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
    cell = min(0.42, 12 / len(classes))
    side = cell * len(classes)
    figure, panels = new_panels(len(predictions), side + 1.6, side + 1.4)
    for axes, (method, table) in zip(panels, predictions.items(), strict=True):
        sns.heatmap(
            confusion_matrix(table["actual"], table["predicted"], labels=classes, normalize="true"),
            ax=axes,
            vmin=0,
            vmax=1,
            cmap="Blues",
            square=True,
            cbar=False,
            xticklabels=classes if len(classes) <= 40 else False,
            yticklabels=classes if len(classes) <= 40 else False,
        )
        axes.set(title=TITLES[method], xlabel="predicted class", ylabel="true class")
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(axis="y", rotation=0)

    percent = PercentFormatter(1, decimals=0)
    figure.colorbar(panels[0].collections[0], ax=panels, format=percent, shrink=0.5, label="share of the true class")
    return figure


def curves_figure(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw the training losses of each training run, in total and by term.

    Args:
        histories: Training curve of each run, with the step or epoch in the first column; see `read_history`.
    """
    figure, panels = new_panels(len(histories), 4.6, 3.2)
    for axes, (stage, rows) in zip(panels, histories.items(), strict=True):
        steps = str(rows.columns[0])
        terms = [name for name in rows.columns[1:] if name != "learning_rate"]
        if len(terms) == 2:  # A single term equals the total.
            terms = terms[:1]
        for term, style in zip(terms, cycle(("-", "--", ":", "-.", (0, (5, 1))))):
            axes.plot(rows[steps], rows[term], linestyle=style, label=term.replace("_", " "), linewidth=2)

        headroom = 1.5 if len(terms) > 1 else 1.05
        top = headroom * float(rows[terms].to_numpy().max())
        axes.set(title=TRAINING_TITLES[stage], xlabel=steps, ylabel="training loss", ylim=(0, top))
        if len(terms) > 1:
            axes.legend(loc="upper right", ncols=2, frameon=False)
    return figure
