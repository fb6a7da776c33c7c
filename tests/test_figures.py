"""Figures at their edges: few and many classes, class names that could be taken for markup, missing classes."""

import numpy as np
import pandas as pd
import pytest

from stages.evaluation.statistics import class_accuracy
from stages.reporting.figures.comparison import class_figure, confusion_figure
from stages.reporting.figures.examples import examples_figure
from stages.reporting.figures.representation import components_figure, layout_figure, layout_grid, layout_movie
from stages.reporting.figures.style import figure_png

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
    layout_movie(_layouts(images), labels, _names(classes), tmp_path / "a.webp")
    layout_movie(_layouts(images), labels, _names(classes), tmp_path / "b.webp")
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()


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
    figure_png(class_figure(class_accuracy(predictions)))
    figure_png(confusion_figure(predictions))
