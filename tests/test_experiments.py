"""Finished experiments side by side, from what `dvc exp show --csv` prints."""

import io

import pandas as pd
import pytest

from stages.evaluation.accuracy import METHODS, wilson_interval
from stages.experiments import as_markdown, axis_figure, read_experiments
from stages.pipeline.errors import UserError


def _csv(sizes):
    rows = []
    for number, size in enumerate(sizes):
        row = {"Experiment": f"run-{number}", "rev": f"{number:07x}", "unlabeled.size": size}
        for place, method in enumerate(METHODS):
            row |= {f"{method}.accuracy": 0.5 + 0.1 * place + 0.01 * number}
            row |= {f"{method}.test_images": 1000, f"{method}.labels": 50}
        rows.append(row)
    return io.StringIO(pd.DataFrame(rows).to_csv(index=False))


def test_read_experiments_orders_by_varied_parameter():
    found = read_experiments(_csv([500, 100, 500]), "unlabeled.size")
    assert found["value"].tolist() == [100] * 4 + [500] * 4
    first = found.iloc[0]
    assert (first["method"], first["accuracy"], first["labels"]) == ("supervised", 0.51, 50)
    assert (first["low"], first["high"]) == pytest.approx(wilson_interval(510, 1000))
    assert axis_figure(found, "unlabeled.size").axes[0].get_xlabel().startswith("unlabeled.size")


def test_read_experiments_knows_names_of_earlier_versions():
    """A commit of an earlier version makes DVC name the file of both."""
    table = pd.read_csv(_csv([100, 500]))
    names = [name for name in table if name.partition(".")[0] in METHODS]
    for name in names:
        method, _, key = name.partition(".")
        table[f"metrics/{method}.json:{key}"] = table[name].where(table["unlabeled.size"] == 100)
        table[f"metrics/{method}.json:{name}"] = table[name].where(table["unlabeled.size"] == 500)
    mixed = table.drop(columns=names).to_csv(index=False)
    expected = read_experiments(_csv([100, 500]), "unlabeled.size")
    pd.testing.assert_frame_equal(read_experiments(io.StringIO(mixed), "unlabeled.size"), expected)


def test_read_experiments_skips_commits_without_results():
    table = pd.read_csv(_csv([100, 500]), dtype=str)
    table.iloc[1, 3:] = "!"
    found = read_experiments(io.StringIO(table.to_csv(index=False)), "unlabeled.size")
    assert set(found["value"]) == {100}


def test_read_experiments_shows_null_and_zero():
    found = read_experiments(_csv([500, None, 100]), "unlabeled.size")
    assert found["value"].unique().tolist() == [100, 500, "all"]
    axes = axis_figure(found, "unlabeled.size").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "500", "all"]
    zero = read_experiments(_csv([0, 500, 5]), "unlabeled.size")
    axes = axis_figure(zero, "unlabeled.size").axes[0]
    axes.figure.canvas.draw()
    places = [axes.transData.transform((value, 0))[0] for value in (0, 5, 500)]
    assert places[1] - places[0] > 0.1 * (places[2] - places[0])


def test_as_markdown_has_one_row_per_experiment():
    lines = as_markdown(read_experiments(_csv([100, 500]), "Experiment"), "Experiment").splitlines()
    assert len(lines) == 4
    assert "Semi-supervised" in lines[0]
    assert "run-1" in lines[3]


def test_read_experiments_names_what_cannot_be_shown():
    with pytest.raises(UserError, match="colour is not a column"):
        read_experiments(_csv([1]), "colour")
    with pytest.raises(UserError, match="the input holds no table"):
        read_experiments(io.StringIO(""), "colour")
    with pytest.raises(UserError, match="no experiment with results"):
        read_experiments(io.StringIO("Experiment,rev,unlabeled.size\n,main,\n"), "unlabeled.size")
