"""The figures: each function draws one and returns it."""

from io import BytesIO
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix

from stages.files import write_bytes
from stages.reporting.records import TITLES
from stages.reporting.style import MARKS, METHOD_COLOURS, METHOD_LINES, METHOD_MARKS, class_colours, new_axes

# What describes a representation, by panel: column to its name in the legend.
EVOLUTION_CURVES = {
    "Held-out images told apart": {"knn_accuracy": "nearest neighbours", "linear_accuracy": "logistic regression"},
    "Effective rank of the features": {"effective_rank": "effective rank"},
    "Alignment (lower: two views closer)": {"alignment": "alignment"},
    "Uniformity (lower: more evenly spread)": {"uniformity": "uniformity"},
    "Barlow Twins loss": {"invariance": "invariance", "redundancy": "redundancy"},
}


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG, the same bytes for the same figure; it is closed."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG and close it; see `figure_png`."""
    write_bytes(path, figure_png(figure))


def accuracy_figure(rows: dict[str, dict]) -> Figure:
    """Test accuracy of each method with its 95 % interval."""
    figure, axes = new_axes(height=2.8)
    for place, (method, row) in enumerate(rows.items()):
        low, high = row["ci95"]
        share = row["accuracy"]
        axes.errorbar(
            share,
            place,
            xerr=[[share - low], [high - share]],
            fmt=METHOD_MARKS[method],
            color=METHOD_COLOURS[method],
            capsize=5,
            markersize=9,
            linewidth=2.5,
        )
        axes.annotate(f"{share:.1%}", (share, place), (0, 12), textcoords="offset points", ha="center", weight="bold")
    any_row = next(iter(rows.values()))
    axes.set(
        yticks=range(len(rows)),
        yticklabels=[TITLES[method] for method in rows],
        ylim=(len(rows) - 0.5, -0.7),
        xlabel="test accuracy (top-1, with 95 % Wilson interval)",
        title=f"{any_row['labels']:,} visible labels, {any_row['test_images']:,} test images",
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def efficiency_figure(study: pd.DataFrame) -> Figure:
    """Test accuracy against the number of visible labels, one line per method; bands are the intervals of the table."""
    return accuracy_lines(study, "labels", "visible labels (logarithmic scale)", "What a label buys")


def accuracy_lines(table: pd.DataFrame, x: str, x_label: str, title: str) -> Figure:
    """Test accuracy against a number on a logarithmic axis, one line per method with its interval as a band.

    Args:
        table: columns `method`, `accuracy`, `low`, `high`, and the one named by `x`.
        x, x_label, title: column, name of the axis, heading.
    """
    figure, axes = new_axes()
    for method, rows in table.groupby("method", sort=False):
        colour = METHOD_COLOURS[method]
        axes.plot(
            rows[x],
            rows["accuracy"],
            marker=METHOD_MARKS[method],
            linestyle=METHOD_LINES[method],
            color=colour,
            label=TITLES[method],
            linewidth=2.2,
        )
        axes.fill_between(rows[x], rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    ticks = sorted(table[x].unique())
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel=x_label, ylabel="test accuracy (top-1)", title=title)
    axes.legend(loc="lower right", frameon=True)
    return figure


def class_figure(classes: pd.DataFrame) -> Figure:
    """Test accuracy of each class and method with its 95 % interval; the hardest class for all methods comes last."""
    order = classes.groupby("class")["accuracy"].mean().sort_values(ascending=False).index
    figure, axes = new_axes(width=min(max(7.0, 0.8 * len(order) + 2), 40.0), height=4.2)
    methods = classes["method"].unique()
    for number, method in enumerate(methods):
        rows = classes[classes["method"] == method].set_index("class").loc[order]
        places = np.arange(len(order)) + (number - (len(methods) - 1) / 2) * 0.16
        axes.errorbar(
            places,
            rows["accuracy"],
            yerr=[rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]],
            fmt=METHOD_MARKS[method],
            color=METHOD_COLOURS[method],
            label=TITLES[method],
            markersize=5,
            linewidth=1.4,
        )
    axes.set_xticks(range(len(order)), order, rotation=90 if len(order) > 10 else 20)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylabel="test accuracy, 95 % interval", title="Accuracy by class")
    figure.legend(loc="outside lower center", ncols=len(methods), frameon=False)
    return figure


def calibration_figure(tables: dict[str, pd.DataFrame], errors: dict[str, float]) -> Figure:
    """Reliability diagrams side by side: accuracy against confidence; areas grow with the number of images."""
    figure, panels = _panels(len(tables), 3.6, 3.9)
    for axes, (method, table) in zip(panels, tables.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        axes.errorbar(
            table["confidence"],
            table["accuracy"],
            yerr=[table["accuracy"] - table["low"], table["high"] - table["accuracy"]],
            fmt="none",
            color=METHOD_COLOURS[method],
            linewidth=1.2,
        )
        area = 14 + 180 * table["images"] / table["images"].sum()
        axes.scatter(
            table["confidence"], table["accuracy"], s=area, marker=METHOD_MARKS[method], color=METHOD_COLOURS[method]
        )
        axes.set(
            title=f"{TITLES[method]}\nmean gap {errors[method]:.1%}",
            xlabel="confidence",
            ylabel="accuracy, 95 % interval",
            xlim=(0, 1.04),
            ylim=(-0.03, 1.03),
            aspect="equal",
            xticks=[0, 0.5, 1],
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.suptitle("On the grey line, confidence is as good as its word")
    return figure


def confusion_figure(predictions: dict[str, pd.DataFrame]) -> Figure:
    """Confusion matrices side by side, each row in shares of the actual class."""
    classes = sorted({name for table in predictions.values() for name in (*table["actual"], *table["predicted"])})
    ticks = classes if len(classes) <= 40 else False
    cell = min(0.42, 12 / len(classes))
    side = cell * len(classes)
    figure, panels = _panels(len(predictions), side + 1.6, side + 1.4)
    for axes, (method, table) in zip(panels, predictions.items(), strict=True):
        shares = confusion_matrix(table["actual"], table["predicted"], labels=classes, normalize="true")
        sns.heatmap(
            shares,
            ax=axes,
            vmin=0,
            vmax=1,
            cmap="Blues",
            square=True,
            cbar=False,
            xticklabels=ticks,
            yticklabels=ticks,
        )
        axes.set(title=TITLES[method], xlabel="predicted class", ylabel="actual class")
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(axis="y", rotation=0)
    scale = {"format": PercentFormatter(1, decimals=0), "shrink": 0.5, "label": "share of the actual class"}
    figure.colorbar(panels[0].collections[0], ax=panels, **scale)
    return figure


def curves_figure(histories: dict[str, pd.DataFrame]) -> Figure:
    """Training losses of every model, in total and by term."""
    titles = TITLES | {"pretrain": "Barlow Twins pretraining"}
    figure, panels = _panels(len(histories), 4.6, 3.2)
    for axes, (stage, rows) in zip(panels, histories.items(), strict=True):
        steps = rows.columns[0]
        terms = [name for name in rows.columns[1:] if name != "learning_rate"]
        if len(terms) == 2:
            terms = terms[:1]
        for term, style in zip(terms, ("-", "--", ":", "-.", (0, (5, 1))), strict=False):
            axes.plot(rows[steps], rows[term], linestyle=style, label=term.replace("_", " "), linewidth=2)
        above = 1.5 if len(terms) > 1 else 1.05
        axes.set(
            title=titles[stage], xlabel=steps, ylabel="training loss", ylim=(0, above * rows[terms].max(axis=None))
        )
        if len(terms) > 1:
            axes.legend(loc="upper right", ncols=2, frameon=False)
    return figure


def layout_figure(
    layouts: dict[int, NDArray[np.float32]], epoch: int, labels: NDArray[np.int64], classes: tuple[str, ...]
) -> Figure:
    """One layout with its legend; limits are those of all layouts, so that pictures can be compared."""
    figure, axes = new_axes(width=7.4, height=5.4)
    _draw_layout(axes, layouts[epoch], labels, classes, _reach(layouts), 26)
    axes.set_title(_epoch_title(epoch))
    _legend(figure, axes, classes)
    return figure


def layout_grid(layouts: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """All layouts in a grid, first to last."""
    columns = min(4, len(layouts))
    rows = -(-len(layouts) // columns)
    figure, panels = new_axes(rows, columns, 3.0 * columns + 1.8, 3.1 * rows, squeeze=False)
    for axes in panels.flat[len(layouts) :]:
        axes.set_axis_off()
    for axes, (epoch, layout) in zip(panels.flat, layouts.items(), strict=False):
        _draw_layout(axes, layout, labels, classes, _reach(layouts), 14)
        axes.set_title(_epoch_title(epoch))
    _legend(figure, panels.flat[0], classes)
    figure.suptitle("How the representation evolves: t-SNE of the same training images, coloured by class")
    return figure


def representation_figure(numbers: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    """The numbers that describe the representation at every checkpoint, and the terms of the loss at every epoch.

    Args:
        numbers: columns `epoch`, `knn_accuracy`, `linear_accuracy`, `effective_rank`, `alignment`, `uniformity`.
        losses: columns `epoch`, `invariance`, `redundancy`.
    """
    panels = [(title, losses if "invariance" in lines else numbers, lines) for title, lines in EVOLUTION_CURVES.items()]
    figure, axes_of = _panels(len(panels), 4.6, 3.0)
    for axes, (title, table, lines) in zip(axes_of, panels, strict=True):
        for (column, name), style, mark in zip(lines.items(), ("-", "--"), ("o", "D"), strict=False):
            points = mark if table is numbers else None
            axes.plot(table["epoch"], table[column], linestyle=style, marker=points, label=name, linewidth=2)
        axes.set(title=title, xlabel="epoch of pretraining")
        if len(lines) > 1:
            axes.legend(frameon=True)
    axes_of[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def layout_movie(
    layouts: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...], path: Path
) -> None:
    """Write an animated WebP in which points move from each layout to the next, and rest at each."""
    epochs = list(layouts)
    shares = np.linspace(0, 1, 11)[1:]
    scenes = [(layouts[epochs[0]], _epoch_title(epochs[0]), 900)]
    for before, after in pairwise(epochs):
        for share in shares:
            eased = share * share * (3 - 2 * share)
            layout = (1 - eased) * layouts[before] + eased * layouts[after]
            rests = share == 1
            scenes.append((layout, _epoch_title(after if rests else before), 900 if rests else 60))
    frames = []
    for layout, title, _ in scenes:
        figure, axes = new_axes(width=4.9, height=max(3.7, 0.24 * min(len(classes), 30)), dpi=100)
        _draw_layout(axes, layout, labels, classes, _reach(layouts), 12)
        axes.set_title(title)
        _legend(figure, axes, classes)
        figure.canvas.draw()
        frames.append(Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[:, :, :3].copy()))
        plt.close(figure)
    times = [time for *_, time in scenes]
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:], duration=times, loop=0, quality=70, method=4)


def examples_figure(pictures: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Up to eight training images of each class, a row per class, at most 30 of them."""
    shown = classes[:30]
    figure, axes = new_axes(len(shown), 8, 7.6, 0.82 * len(shown), squeeze=False)
    for number, row in enumerate(axes):
        members = np.flatnonzero(labels == number)[:8]
        for cell in row:
            cell.set_axis_off()
        for cell, member in zip(row, members, strict=False):
            cell.imshow(pictures[member])
        row[0].text(-0.15, 0.5, shown[number], transform=row[0].transAxes, ha="right", va="center", fontsize=11)
    return figure


def views_figure(columns: dict[str, NDArray]) -> Figure:
    """Pictures beside views of them; `columns` maps a heading to N pictures, (N, H, W, 3) bytes or shares in 0..1."""
    count = len(next(iter(columns.values())))
    figure, axes = new_axes(count, len(columns), 1.25 * len(columns), 1.25 * count + 0.3, squeeze=False)
    for column, (heading, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(heading, fontsize=11, loc="center")
        for cell, picture in zip(column, pictures, strict=True):
            cell.imshow(picture)
            cell.set_axis_off()
    return figure


def components_figure(
    features: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> Figure:
    """Unit features of each of up to four checkpoints, on the two principal components of the last one."""
    unit = {
        epoch: matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(1e-12) for epoch, matrix in features.items()
    }
    epochs = list(unit)
    chosen = [epochs[place] for place in sorted({round(p) for p in np.linspace(0, len(epochs) - 1, 4)})]
    components = PCA(2, svd_solver="full").fit(unit[epochs[-1]])
    layouts = {epoch: components.transform(unit[epoch]) for epoch in chosen}
    figure, panels = new_axes(1, len(chosen), 3.1 * len(chosen) + 1.8, 3.4, squeeze=False)
    for axes, (epoch, layout) in zip(panels[0], layouts.items(), strict=True):
        _draw_layout(axes, layout, labels, classes, _reach(layouts), 14)
        axes.set(title=_epoch_title(epoch), xlabel="component 1", ylabel="component 2" if epoch == chosen[0] else "")
    _legend(figure, panels[0, 0], classes)
    return figure


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in two columns, each `width` x `height` inches; text stays large enough to read on a page."""
    figure, axes = new_axes(
        -(-count // 2), min(2, count), width * min(2, count), height * -(-count // 2), squeeze=False
    )
    for spare in axes.flat[count:]:
        spare.set_axis_off()
    return figure, list(axes.flat[:count])


def _epoch_title(epoch: int) -> str:
    return "random weights" if epoch == 0 else f"epoch {epoch}"


def _reach(layouts: dict[int, NDArray[np.float32]]) -> float:
    return 1.05 * max(float(np.abs(layout).max()) for layout in layouts.values())


def _draw_layout(
    axes: Axes,
    layout: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    reach: float,
    area: float,
) -> None:
    for number, (name, colour) in enumerate(zip(classes, class_colours(len(classes)), strict=True)):
        points = layout[labels == number]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=area,
            color=colour,
            marker=MARKS[number % len(MARKS)],
            label=name,
            alpha=0.85,
            edgecolor="0.3",
            linewidth=0.3,
        )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")


def _legend(figure: Figure, axes: Axes, classes: tuple[str, ...]) -> None:
    if len(classes) <= 30:
        figure.legend(axes.collections, classes, loc="outside right center", frameon=False)
