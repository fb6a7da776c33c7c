"""Figures of example images and of their views."""

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stages.images.views import ViewRecipe, draw_views
from stages.reporting.figures.style import new_grid, short_names

_EXAMPLES_PER_CLASS = 8
_MOST_CLASSES = 30
_STRONG_VIEWS, _WEAK_VIEWS = 3, 2


def examples_figure(images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]) -> Figure:
    """Draw the first eight images of each of the first 30 classes, a row per class.

    Args:
        images: (N, H, W, 3) images.
        labels: (N,) class numbers.
        classes: Names of the classes.
    """
    shown = classes[:_MOST_CLASSES]
    figure, grid = new_grid(len(shown), _EXAMPLES_PER_CLASS, 7.6, 0.82 * len(shown))
    names = short_names(shown)
    for number, row in enumerate(grid):
        members = np.flatnonzero(labels == number)[:_EXAMPLES_PER_CLASS]
        for axes in row:
            axes.set_axis_off()
        for axes, member in zip(row, members, strict=False):
            axes.imshow(images[member])
        row[0].text(-0.15, 0.5, names[number], transform=row[0].transAxes, ha="right", va="center", fontsize=11)
    return figure


def views_figure(images: NDArray[np.uint8], strong: ViewRecipe, weak: ViewRecipe, seed: int) -> Figure:
    """Draw images, a row each, beside three strong and two weak views of them.

    Args:
        images: (N, H, W, 3) images.
        strong: Augmentation of the strong views.
        weak: Augmentation of the weak views.
        seed: Random seed for the augmentation.
    """
    generator = torch.Generator().manual_seed(seed)
    columns: dict[str, NDArray[np.generic]] = {"image": images}
    for name, recipe, count in (("strong view", strong, _STRONG_VIEWS), ("weak view", weak, _WEAK_VIEWS)):
        for number in range(1, count + 1):
            second_views = len(images) if number == 2 else 0
            views = draw_views(torch.from_numpy(images), recipe, generator, second_views).clamp(0, 1)
            columns[f"{name} {number}"] = views.permute(0, 2, 3, 1).numpy()

    figure, grid = new_grid(len(images), len(columns), 1.25 * len(columns), 1.25 * len(images) + 0.3)
    for column, (title, pixels) in enumerate(columns.items()):
        grid[0][column].set_title(title, fontsize=11, loc="center")
        for row, image in enumerate(pixels):
            grid[row][column].imshow(image)
            grid[row][column].set_axis_off()
    return figure
