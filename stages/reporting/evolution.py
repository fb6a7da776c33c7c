"""The page that shows how a representation evolves: the same images at every checkpoint, in one offline file."""

from base64 import b64encode
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from stages.reporting.figures.representation import EVOLUTION_CURVES
from stages.reporting.figures.style import class_colours, class_symbols
from stages.reporting.pages import jpeg_url, render

SHOWN_NEIGHBOURS = 8
_TILE_PIXELS = 48


@dataclass(frozen=True)
class Evolution:
    """What is known of the representation at each of K checkpoints, first to last.

    Attributes:
        layouts: (N, 2) layout at each epoch.
        features: (N, D) features at each epoch.
        metrics: One row per checkpoint: `epoch` and the columns of EVOLUTION_CURVES, with NaN where a metric is
            unknown.
        correlations: (K, d, d) cross-correlation matrices of the first d dimensions of the embedding.
    """

    layouts: dict[int, NDArray[np.float32]]
    features: dict[int, NDArray[np.float32]]
    metrics: pd.DataFrame
    correlations: NDArray[np.float32]


def evolution_page(
    evolution: Evolution,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    files: list[str] | None = None,
) -> str:
    """Return the page as HTML that needs no other file.

    Args:
        evolution: Representation of N images at each checkpoint.
        images: (N, H, W, 3) images.
        labels: (N,) class numbers.
        classes: Names of the classes.
        files: File of each image, which is shown; None if they come from no files.
    """
    layouts = np.stack(list(evolution.layouts.values()))
    limit = 1.05 * (float(np.abs(layouts).max()) or 1.0)
    neighbours = np.stack([nearest(features) for features in evolution.features.values()])
    tile = min(_TILE_PIXELS, images.shape[1])
    columns = int(np.ceil(np.sqrt(len(images))))

    content = {
        "epochs": list(evolution.layouts),
        "images": len(labels),
        "layouts": _base64(np.round(layouts / limit * 32767).astype("<i2")),
        "neighbours": _base64(neighbours.astype("<u4")),
        "labels": labels.tolist(),
        "classes": _classes(classes),
        "files": files,
        "sprite": {"columns": columns, "rows": -(-len(images) // columns), "tile": tile},
        "curves": _curves(evolution.metrics),
        "correlations": {
            "size": evolution.correlations.shape[1],
            "values": _base64(np.round(evolution.correlations.clip(-1, 1) * 127).astype("i1")),
        },
    }
    return render("evolution.html", content=content, sprite=contact_sheet(images, columns, tile), plotly=True)


def nearest(features: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest neighbours of each image by cosine distance.

    Args:
        features: (N, D) features.

    Returns:
        (N, k) indices of other images, nearest first; k is 8, or N - 1 if that is less.
    """
    count = min(SHOWN_NEIGHBOURS, len(features) - 1)
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(features)
    neighbours: NDArray[np.int64] = search.kneighbors(return_distance=False)
    return neighbours


def contact_sheet(images: NDArray[np.uint8], columns: int, tile: int) -> str:
    """Return all images in one JPEG, as a data URL.

    Args:
        images: (N, H, W, 3) images.
        columns: Number of images in a row.
        tile: Height and width of each image in pixels.
    """
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * tile, rows * tile))
    for number, image in enumerate(images):
        resized = Image.fromarray(image).resize((tile, tile), Image.Resampling.LANCZOS)
        sheet.paste(resized, (number % columns * tile, number // columns * tile))
    return jpeg_url(sheet)


def _classes(classes: tuple[str, ...]) -> list[dict[str, str]]:
    """Return name, colour and marker of each class."""
    colours = ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in class_colours(len(classes))]
    return [
        {"name": name, "colour": colour, "symbol": symbol}
        for name, colour, symbol in zip(classes, colours, class_symbols(len(classes)), strict=True)
    ]


def _curves(metrics: pd.DataFrame) -> list[dict[str, object]]:
    """Return title and lines of each chart; a value that is unknown is None."""
    return [
        {
            "title": title,
            "lines": [
                {"name": name, "values": [None if np.isnan(v) else round(float(v), 5) for v in metrics[column]]}
                for column, name in lines.items()
            ],
        }
        for title, lines in EVOLUTION_CURVES.items()
    ]


def _base64(array: NDArray[np.generic]) -> str:
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()
