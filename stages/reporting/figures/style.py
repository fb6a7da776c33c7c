"""One look for all figures: colours, markers, axes, and how a figure becomes a file."""

from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # Draws without a display; it has to be chosen before pyplot is imported.
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.pipeline.files import write_bytes

METHOD_COLOURS = {"supervised": "#D55E00", "probe": "#0072B2", "fine_tune": "#CC79A7", "semi_supervised": "#009E73"}
METHOD_MARKERS = {"supervised": "o", "probe": "s", "fine_tune": "D", "semi_supervised": "^"}
METHOD_LINES = {"supervised": "--", "probe": ":", "fine_tune": "-.", "semi_supervised": "-"}
CLASS_MARKERS = "osD^vP*Xph"
_PLOTLY_SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down"),
    *("cross", "star", "x", "pentagon", "hexagon"),
)


def apply_style() -> None:
    """Set fonts, grid and sizes of the figures that follow."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc={
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "font.family": "DejaVu Sans",
            "text.parse_math": False,
            "svg.hashsalt": "few-labels",
        },
    )


def class_colours(count: int) -> list[tuple[float, float, float]]:
    """Return an RGB colour in 0..1 for each class: colour-blind-safe ones up to ten, evenly spaced hues beyond."""
    palette = sns.color_palette("colorblind", count) if count <= 10 else sns.husl_palette(count, l=0.55)
    return list(palette)


def class_symbols(count: int) -> list[str]:
    """Return Plotly's name of the marker of each class; the markers equal those of the figures."""
    return [_PLOTLY_SYMBOLS[number % len(_PLOTLY_SYMBOLS)] for number in range(count)]


def new_axes(width: float = 7.0, height: float = 4.2, dpi: float | None = None) -> tuple[Figure, Axes]:
    """Create a styled figure of `width` x `height` inches with a single pair of axes."""
    apply_style()
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained", dpi=dpi)
    return figure, axes


def new_grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Create a styled figure of `width` x `height` inches with a grid of axes, returned row by row."""
    apply_style()
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
    return figure, axes.tolist()


def new_panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Create a styled figure with panels of `width` x `height` inches, two a row so that a page keeps them legible."""
    columns = min(2, count)
    rows = -(-count // columns)
    figure, grid = new_grid(rows, columns, width * columns, height * rows)
    panels = [axes for row in grid for axes in row]
    for spare in panels[count:]:
        spare.set_axis_off()
    return figure, panels[:count]


def figure_png(figure: Figure) -> bytes:
    """Render a figure as PNG and close it; equal figures give equal bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG and close it; see `figure_png`."""
    write_bytes(path, figure_png(figure))
