"""One look for all figures."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns

METHOD_COLOURS = {"supervised": "#D55E00", "probe": "#0072B2", "fine_tune": "#CC79A7", "semi_supervised": "#009E73"}
METHOD_MARKS = {"supervised": "o", "probe": "s", "fine_tune": "D", "semi_supervised": "^"}
METHOD_LINES = {"supervised": "--", "probe": ":", "fine_tune": "-.", "semi_supervised": "-"}
MARKS = "osD^vP*Xph"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "x", "pentagon", "hexagon")


def apply_style() -> None:
    """Set fonts, grid and sizes for the figures that follow."""
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


def class_colours(count: int) -> list:
    """A colour for each class: ones that colour-blind people can tell apart up to ten, hues in even steps beyond."""
    return sns.color_palette("colorblind", count) if count <= 10 else sns.husl_palette(count, l=0.55)


def class_symbols(count: int) -> list[str]:
    """Plotly's name of the mark of each class, the same as in the figures."""
    return [_SYMBOLS[number % len(_SYMBOLS)] for number in range(count)]


def new_axes(rows: int = 1, columns: int = 1, width: float = 7.0, height: float = 4.2, **more):
    """A styled figure and its axes."""
    apply_style()
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **more)
