"""One look for all figures: colours, markers, axes, and how a figure becomes a file."""

import os
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

# Draws without a display, whatever a notebook has set; it has to be chosen before Matplotlib is imported.
os.environ["MPLBACKEND"] = "Agg"
import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.pipeline.files import write_bytes

METHOD_COLOURS = {"supervised": "#D55E00", "probe": "#0072B2", "fine_tune": "#CC79A7", "semi_supervised": "#009E73"}
METHOD_MARKERS = {"supervised": "o", "probe": "s", "fine_tune": "D", "semi_supervised": "^"}
METHOD_LINES = {"supervised": "--", "probe": ":", "fine_tune": "-.", "semi_supervised": "-"}
CLASS_MARKERS = "osD^vP*Xph"
_FONT = "DejaVu Sans"
_PLOTLY_SYMBOLS = (
    *("circle", "square", "diamond", "triangle-up", "triangle-down"),
    *("cross", "star", "x", "pentagon", "hexagon"),
)


# Fonts for letters that the first one lacks; see `choose_fonts`.
_further_fonts: list[str] = []


def choose_fonts(texts: Iterable[str]) -> str:
    """Choose fonts of this machine for the letters of some texts, for all figures that follow.

    Args:
        texts: Texts that figures will show, such as the names of the classes.

    Returns:
        A sentence that names letters for which there is no font; empty if there are fonts for all.
    """
    letters = {letter for text in texts for letter in text if letter.isprintable() and not letter.isspace()}
    missing = {ord(letter) for letter in letters} - _letters_of(font_manager.findfont(_FONT))
    _further_fonts.clear()
    if missing:
        _list_new_fonts()
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if missing and not font.name.startswith("Last Resort") and (found := missing & _letters_of(font.fname)):
            _further_fonts.append(font.name)
            missing -= found
    if not missing:
        return ""
    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # One sentence, not a line for each letter.
    shown = "".join(chr(letter) for letter in sorted(missing)[:20])
    return f"Figures show boxes for {len(missing):,} letters ({shown}): install a font that has them, such as Noto."


def _list_new_fonts() -> None:
    """Add the fonts to Matplotlib's list that were installed after it was made."""
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for file in sorted(set(font_manager.findSystemFonts()) - listed):
        with suppress(RuntimeError, OSError):  # Fonts of bitmaps cannot be used.
            font_manager.fontManager.addfont(file)


def _letters_of(font_file: str) -> set[int]:
    return set(font_manager.get_font(font_file).get_charmap())


def short_names(names: Sequence[str], width: int = 24) -> list[str]:
    """Shorten long names in the middle, so that a figure has room for them and they still differ.

    Args:
        names: Names that differ.
        width: Most letters of a name; letters of East Asian scripts count twice.
    """
    shortened = [_shortened(name, width) for name in names]
    return [f"{place}: {name}" if shortened.count(name) > 1 else name for place, name in enumerate(shortened, start=1)]


def _shortened(name: str, width: int) -> str:
    if letter_width(name) <= width:
        return name
    head, tail = "", ""
    for letter in name:
        if letter_width(head + letter) > width * 2 // 3:
            break
        head += letter
    for letter in reversed(name):
        if letter_width(head + letter + tail) > width - 1:
            break
        tail = letter + tail
    return f"{head}…{tail}"


def letter_width(text: str) -> int:
    """Return the number of letters, those of East Asian scripts counted twice."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def apply_style() -> None:
    """Set fonts, grid and sizes of the figures that follow; those of the user's matplotlibrc do not count."""
    matplotlib.rcdefaults()
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
            "font.family": [_FONT, *_further_fonts],
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
