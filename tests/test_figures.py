"""Figures at their edges: few and many classes, class names that could be taken for markup, missing classes."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers.structure import ROOT
from matplotlib import font_manager

from stages.evaluation.statistics import class_accuracy
from stages.reporting.figures.comparison import class_figure, confusion_figure
from stages.reporting.figures.examples import examples_figure
from stages.reporting.figures.representation import components_figure, layout_figure, layout_grid, layout_movie
from stages.reporting.figures.style import choose_fonts, figure_png, letter_width, short_names

AWKWARD = ("_hidden", "$x", r"$\frac$", "<b>bold</b>", "=cmd()")


def _names(count):
    return (*AWKWARD, *(f"class {number}" for number in range(count)))[:count]


def _layouts(images):
    rng = np.random.default_rng(0)
    return {epoch: rng.normal(size=(images, 2)).astype(np.float32) for epoch in (0, 3)}


@pytest.mark.parametrize(("classes", "images"), [(2, 10), (5, 50), pytest.param(200, 400, marks=pytest.mark.slow)])
def test_layout_figures_name_every_class(classes, images, tmp_path):
    labels = np.arange(images) % classes
    figure = layout_figure(_layouts(images), 3, labels, _names(classes))
    shown = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert shown == (list(_names(classes)) if classes <= 30 else [])
    assert figure_png(figure) == figure_png(layout_figure(_layouts(images), 3, labels, _names(classes)))
    figure_png(layout_grid({0: _layouts(images)[0]}, labels, _names(classes)))
    figure_png(components_figure(_layouts(images), labels, _names(classes)))
    figure_png(layout_figure({0: np.zeros((images, 2), np.float32)}, 0, labels, _names(classes)))
    layout_movie(_layouts(images), labels, _names(classes), tmp_path / "a.webp")
    layout_movie(_layouts(images), labels, _names(classes), tmp_path / "b.webp")
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({}, "text.usetex: True\n"),
        ({}, "savefig.dpi: 300\nlines.markeredgewidth: 3\nsavefig.transparent: True\n"),
        ({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, ""),
        ({"MPLBACKEND": "nothing of the kind"}, ""),
    ],
)
def test_figures_ignore_settings_of_user(environment, settings, tmp_path):
    code = (
        "import hashlib; from stages.reporting.figures.style import figure_png, new_axes\n"
        "figure, axes = new_axes(); axes.plot([1, 2]); axes.set_title('Title')\n"
        "print(hashlib.sha256(figure_png(figure)).hexdigest())"
    )
    digests = []
    for more, content in (({}, ""), (environment, settings)):
        (tmp_path / "matplotlibrc").write_text(content)
        variables = os.environ | {"MPLCONFIGDIR": str(tmp_path), "PYTHONPATH": str(ROOT)} | more
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
        digests.append(done.stdout.splitlines()[-1])
    assert digests[0] == digests[1]


LONG = [f"class number {number:03} with a long name that goes on and on until {number}" for number in range(120)]


def test_short_names_differ_and_fit():
    assert short_names(["cat", "dog"]) == ["cat", "dog"]
    found = short_names(LONG)
    assert len(set(found)) == 120
    assert max(map(letter_width, found)) <= 24 + len("120: ")
    assert max(map(letter_width, short_names(["猫" * 30, "犬" * 30, "猫" * 12]))) <= 24
    same_ends = short_names(["a" * 40 + "1" + "b" * 40, "a" * 40 + "2" + "b" * 40])
    assert len(set(same_ends)) == 2


def test_choose_fonts_names_letters_without_font():
    assert choose_fonts(["plain", "café", "Ωmega"]) == ""
    private = "\U000f1234"
    assert "Figures show boxes for 1 letters" in choose_fonts([f"x{private}"]) or not private.isprintable()
    assert choose_fonts(["plain"]) == ""


def test_choose_fonts_finds_fonts_that_matplotlib_has_not_listed(monkeypatch):
    """Matplotlib keeps its list of fonts between runs, and does not notice new ones."""
    manager = font_manager.fontManager
    listed = {font.name: font.fname for font in manager.ttflist}
    letters = [font_manager.get_font(listed[name]).get_charmap().keys() for name in ("STIXGeneral", "DejaVu Sans")]
    letter = next(chr(code) for code in sorted(letters[0] - letters[1]) if chr(code).isprintable())
    monkeypatch.setattr(manager, "ttflist", [font for font in manager.ttflist if font.name == "DejaVu Sans"])
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    assert "boxes for 1 letters" in choose_fonts([letter])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [listed["STIXGeneral"], __file__])
    assert choose_fonts([letter]) == ""


@pytest.mark.parametrize("names", [LONG, LONG[:2], ["猫と犬の写真がここにあります", "אבגדה", "हिन्दी", "🙂"]])
def test_class_figures_leave_room_for_names(names):
    actual = np.array(names, object)[np.arange(4 * len(names)) % len(names)]
    table = pd.DataFrame({"actual": actual, "predicted": actual, "confidence": 0.9})
    predictions = {"supervised": table, "probe": table}
    for figure in (confusion_figure(predictions), class_figure(class_accuracy(predictions), names)):
        figure.canvas.draw()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels() if label.get_text()]
        assert len(boxes) >= min(len(names), 20) or len(names) > 40
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        assert figure.axes[0].get_window_extent().width > 100
        figure_png(figure)


def test_examples_figure_with_class_of_one_image():
    images = np.zeros((9, 8, 8, 3), np.uint8)
    figure_png(examples_figure(images, np.array([0] * 8 + [1]), AWKWARD[:2]))


def test_confusion_figure_counts_classes_absent_from_test_images():
    table = pd.DataFrame({"actual": ["a"] * 4 + ["b"] * 4, "predicted": list("aacc") + list("bbbb"), "confidence": 0.5})
    figure = confusion_figure({"supervised": table, "probe": table})
    shares = figure.axes[0].collections[0].get_array().reshape(3, 3)
    np.testing.assert_allclose(shares, [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]])
    figure_png(figure)


@pytest.mark.parametrize("classes", [2, 60])
def test_class_figures_with_few_and_many_classes(classes):
    actual = np.array(_names(classes), object)[np.arange(4 * classes) % classes]
    table = pd.DataFrame({"actual": actual, "predicted": actual, "confidence": 0.9})
    predictions = {"supervised": table, "probe": table}
    figure_png(class_figure(class_accuracy(predictions), ("absent", *_names(classes))))
    figure_png(confusion_figure(predictions))
