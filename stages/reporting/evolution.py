"""The page that shows how a representation evolves: the same images at every checkpoint, in one file that needs no network."""

from base64 import b64encode

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from stages.reporting.figures import EVOLUTION_CURVES
from stages.reporting.pages import jpeg_url, render
from stages.reporting.style import class_colours, class_symbols

SHOWN_NEIGHBOURS = 8
_TILE = 48


def evolution_page(
    layouts: dict[int, NDArray[np.float32]],
    features: list[NDArray[np.float32]],
    pictures: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    numbers: pd.DataFrame,
    correlations: NDArray[np.float32],
) -> str:
    """The page as HTML.

    Args:
        layouts: epoch to (N, 2) layout, first to last.
        features: (N, D) of each checkpoint, by which neighbours are found (cosine distance).
        pictures: (N, H, W, 3) uint8.
        labels: (N,) class numbers.
        classes: their names.
        numbers: one row per checkpoint with `epoch` and what EVOLUTION_CURVES names; what is missing stays out of the curves.
        correlations: (K, d, d) cross-correlation of the first dimensions of the embedding at each of K checkpoints.
    """
    places = np.stack(list(layouts.values()))
    reach = 1.05 * float(np.abs(places).max())
    colours = ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in class_colours(len(classes))]
    tile = min(_TILE, pictures.shape[1])
    columns = int(np.ceil(np.sqrt(len(pictures))))
    content = {
        "epochs": list(layouts),
        "images": len(labels),
        "layouts": _base64(np.round(places / reach * 32767).astype("<i2")),
        "neighbours": _base64(np.stack([nearest(matrix) for matrix in features]).astype("<u4")),
        "labels": labels.tolist(),
        "classes": [
            {"name": name, "colour": colour, "symbol": symbol}
            for name, colour, symbol in zip(classes, colours, class_symbols(len(classes)), strict=True)
        ],
        "sprite": {"columns": columns, "rows": -(-len(pictures) // columns), "tile": tile},
        "curves": [
            {
                "title": title,
                "lines": [
                    {"name": name, "values": [None if np.isnan(v) else round(float(v), 5) for v in numbers[column]]}
                    for column, name in lines.items()
                ],
            }
            for title, lines in EVOLUTION_CURVES.items()
        ],
        "correlations": {
            "size": correlations.shape[1],
            "values": _base64(np.round(correlations.clip(-1, 1) * 127).astype("i1")),
        },
    }
    return render("evolution.html", content=content, sprite=contact_sheet(pictures, columns, tile), plotly=True)


def nearest(features: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N, k) indices of the k nearest other images by cosine distance, nearest first; k is 8, or N - 1 if that is less."""
    count = min(SHOWN_NEIGHBOURS, len(features) - 1)
    return NearestNeighbors(n_neighbors=count, metric="cosine").fit(features).kneighbors(return_distance=False)


def contact_sheet(pictures: NDArray[np.uint8], columns: int, tile: int) -> str:
    """Pictures side by side in rows, each `tile` pixels high and wide, as the data URL of one JPEG."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * tile, rows * tile))
    for number, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((tile, tile), Image.Resampling.LANCZOS)
        sheet.paste(small, (number % columns * tile, number // columns * tile))
    return jpeg_url(sheet)


def _base64(array: NDArray) -> str:
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()
