"""Warnings: a training that was stopped before it had learnt its labels, unlabelled images unlike the others."""

import numpy as np
import pandas as pd

from stages.evaluation.warnings import early_stop_sentence, unlike_sentence, with_warning


def _history(start, end):
    return pd.DataFrame({"step": np.arange(50), "cross_entropy": np.geomspace(start, end, 50)})


def test_early_stop_sentence_depends_on_last_tenth_of_curve():
    assert early_stop_sentence("supervised", _history(2.3, 0.01), 10) == ""
    found = early_stop_sentence("supervised", _history(2.3, 0.8), 10)
    assert found.startswith("supervised was stopped early: its training cross-entropy is still 0.")
    assert "Raise supervised.steps" in found
    assert early_stop_sentence("supervised", _history(2.3, 0.05), 2) != ""
    assert early_stop_sentence("supervised", _history(2.3, 0.05), 100) == ""


def test_early_stop_sentence_divides_by_weight():
    history = _history(0.23, 0.02)
    assert early_stop_sentence("semi_supervised", history, 10) == ""
    assert early_stop_sentence("semi_supervised", history, 10, weight=0.1) != ""
    assert early_stop_sentence("semi_supervised", _history(2.3, 2.3), 10, weight=0) == ""


def test_unlike_sentence_says_how_far():
    assert unlike_sentence(0.11, 0.1) == ""
    assert "they lie 2.5 times as far" in unlike_sentence(0.25, 0.1)
    for nearly_nothing in (0.0, 1e-7):
        assert unlike_sentence(0.3, nearly_nothing) == ""


def test_with_warning_adds_line():
    assert with_warning("result", "") == "result"
    assert with_warning("result", "sentence") == "result\nWARNING: sentence"
