"""Figures of the representation: t-SNE layouts, principal components, and metrics at every checkpoint."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA

from stages.reporting.figures.style import CLASS_MARKERS, class_colours, new_axes, new_grid, new_panels, short_names

# Metrics of a representation by panel: the column of each line and its name in the legend.
EVOLUTION_CURVES = {
    "Held-out accuracy": {"knn_accuracy": "k-NN", "linear_accuracy": "linear"},
    "Effective rank of the features": {"effective_rank": "as they are", "centered_rank": "around their mean"},
    "Alignment (lower is better)": {"alignment": "alignment"},
    "Uniformity (lower is better)": {"uniformity": "uniformity"},
    "Barlow Twins loss": {"invariance": "invariance", "redundancy": "redundancy"},
}
_LEGEND_CLASSES = 30
_MOVIE_STEPS = 10
_REST_MILLISECONDS, _STEP_MILLISECONDS = 900, 60


def layout_figure(
    layouts: dict[int, NDArray[np.float32]], epoch: int, labels: NDArray[np.int64], classes: tuple[str, ...]
) -> Figure:
    """Draw the layout of one checkpoint; its limits are those of all layouts, so that the figures can be compared.

    Args:
        layouts: (N, 2) layout at each epoch.
        epoch: Epoch to draw.
        labels: (N,) class numbers.
        classes: Names of the classes.
    """
    figure, axes = new_axes(width=7.4, height=5.4)
    _draw_layout(axes, layouts[epoch], labels, classes, limit=_limit(layouts), area=26)
    axes.set_title(_epoch_title(epoch))
    _draw_legend(figure, axes, classes)
    return figure


def layout_grid(layouts: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Draw the layouts of all checkpoints in a grid; see `layout_figure`."""
    columns = min(4, len(layouts))
    rows = -(-len(layouts) // columns)
    figure, grid = new_grid(rows, columns, 3.0 * columns + 1.8, 3.1 * rows)
    panels = [axes for row in grid for axes in row]
    for axes in panels[len(layouts) :]:
        axes.set_axis_off()

    for axes, (epoch, layout) in zip(panels, layouts.items(), strict=False):
        _draw_layout(axes, layout, labels, classes, limit=_limit(layouts), area=14)
        axes.set_title(_epoch_title(epoch))
    _draw_legend(figure, panels[0], classes)
    figure.suptitle("t-SNE of the same training images at each checkpoint, coloured by class")
    return figure


def layout_movie(
    layouts: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...], path: Path
) -> None:
    """Write an animated WebP in which points move from each layout to the next and rest at each.

    Args:
        layouts: (N, 2) layout at each epoch.
        labels: (N,) class numbers.
        classes: Names of the classes.
        path: File to write.
    """
    epochs = list(layouts)
    scenes = [(layouts[epochs[0]], epochs[0], _REST_MILLISECONDS)]
    for before, after in pairwise(epochs):
        for share in np.linspace(0, 1, _MOVIE_STEPS + 1)[1:]:
            eased = share * share * (3 - 2 * share)
            layout = (1 - eased) * layouts[before] + eased * layouts[after]
            rests = share == 1
            scenes.append((layout, after if rests else before, _REST_MILLISECONDS if rests else _STEP_MILLISECONDS))

    frames = []
    for layout, epoch, _ in scenes:
        figure, axes = new_axes(width=4.9, height=max(3.7, 0.24 * min(len(classes), _LEGEND_CLASSES)), dpi=100)
        _draw_layout(axes, layout, labels, classes, limit=_limit(layouts), area=12)
        axes.set_title(_epoch_title(epoch))
        _draw_legend(figure, axes, classes)
        canvas: Any = figure.canvas  # Matplotlib leaves this canvas without types.
        canvas.draw()
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy()))
        plt.close(figure)

    durations = [milliseconds for *_, milliseconds in scenes]
    frames[0].save(
        path, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=70, method=4
    )


def representation_figure(metrics: pd.DataFrame, history: pd.DataFrame) -> Figure:
    """Draw the metrics of the representation at every checkpoint, and the terms of the pretraining loss at every epoch.

    Args:
        metrics: One row per checkpoint: columns `epoch`, `knn_accuracy`, `linear_accuracy`, `effective_rank`,
            `alignment` and `uniformity`.
        history: One row per epoch of pretraining: columns `epoch`, `invariance` and `redundancy`.
    """
    figure, panels = new_panels(len(EVOLUTION_CURVES), 4.6, 3.0)
    for axes, (title, lines) in zip(panels, EVOLUTION_CURVES.items(), strict=True):
        of_checkpoints = set(lines) <= set(metrics.columns)
        table = metrics if of_checkpoints else history
        for (column, name), style, marker in zip(lines.items(), ("-", "--"), ("o", "D"), strict=False):
            shown_marker = marker if of_checkpoints else None
            axes.plot(table["epoch"], table[column], linestyle=style, marker=shown_marker, label=name, linewidth=2)
        axes.set(title=title, xlabel="pretraining epoch")
        if len(lines) > 1:
            axes.legend(frameon=True)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def components_figure(
    features: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> Figure:
    """Draw the features of up to four checkpoints on the first two principal components of the last checkpoint.

    Args:
        features: (N, D) features at each epoch; they are normalised to unit length.
        labels: (N,) class numbers.
        classes: Names of the classes.
    """
    unit = {
        epoch: matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(1e-12) for epoch, matrix in features.items()
    }
    epochs = list(unit)
    chosen = [epochs[place] for place in sorted({round(p) for p in np.linspace(0, len(epochs) - 1, 4)})]
    components = PCA(2, svd_solver="full").fit(unit[epochs[-1]])
    layouts = {epoch: components.transform(unit[epoch]) for epoch in chosen}

    figure, [panels] = new_grid(1, len(chosen), 3.1 * len(chosen) + 1.8, 3.4)
    for axes, (epoch, layout) in zip(panels, layouts.items(), strict=True):
        _draw_layout(axes, layout, labels, classes, limit=_limit(layouts), area=14)
        axes.set(title=_epoch_title(epoch), xlabel="component 1", ylabel="component 2" if epoch == chosen[0] else "")
    _draw_legend(figure, panels[0], classes)
    return figure


def _draw_layout(
    axes: Axes,
    layout: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    limit: float,
    area: float,
) -> None:
    """Draw a scatter plot by class with axes from -`limit` to `limit` and points of `area` square points."""
    for number, (name, colour) in enumerate(zip(classes, class_colours(len(classes)), strict=True)):
        points = layout[labels == number]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=area,
            color=colour,
            marker=CLASS_MARKERS[number % len(CLASS_MARKERS)],
            label=name,
            alpha=0.85,
            edgecolor="0.3",
            linewidth=0.3,
        )
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")


def _draw_legend(figure: Figure, axes: Axes, classes: tuple[str, ...]) -> None:
    if len(classes) <= _LEGEND_CLASSES:
        figure.legend(axes.collections, short_names(classes), loc="outside right center", frameon=False)


def _limit(layouts: dict[int, NDArray[np.float32]]) -> float:
    return 1.05 * (max(float(np.abs(layout).max()) for layout in layouts.values()) or 1.0)


def _epoch_title(epoch: int) -> str:
    return "before pretraining" if epoch == 0 else f"epoch {epoch}"
