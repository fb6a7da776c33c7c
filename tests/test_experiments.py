"""Finished experiments side by side, from what `dvc exp show --csv` prints."""

import io

import pandas as pd
import pytest

from stages.files import UserError
from stages.reporting.experiments import as_markdown, axis_figure, read_experiments
from stages.reporting.records import METHODS, wilson


def _csv(sizes):
    rows = []
    for number, size in enumerate(sizes):
        row = {"Experiment": f"run-{number}", "rev": f"{number:07x}", "unlabeled.size": size}
        for place, method in enumerate(METHODS):
            row |= {f"metrics/{method}.json:accuracy": 0.5 + 0.1 * place + 0.01 * number}
            row |= {f"metrics/{method}.json:test_images": 1000, f"metrics/{method}.json:labels": 50}
        rows.append(row)
    return io.StringIO(pd.DataFrame(rows).to_csv(index=False))


def test_experiments_are_ordered_by_what_they_vary():
    found = read_experiments(_csv([500, 100, 500]), "unlabeled.size")
    assert found["value"].tolist() == [100] * 4 + [500] * 4
    first = found.iloc[0]
    assert (first["method"], first["accuracy"], first["labels"]) == ("supervised", 0.51, 50)
    assert (first["low"], first["high"]) == pytest.approx(wilson(510, 1000))
    assert axis_figure(found, "unlabeled.size").axes[0].get_xlabel().startswith("unlabeled.size")


def test_commits_without_results_are_passed_over():
    table = pd.read_csv(_csv([100, 500]), dtype=str)
    table.iloc[1, 3:] = "!"
    found = read_experiments(io.StringIO(table.to_csv(index=False)), "unlabeled.size")
    assert set(found["value"]) == {100}


def test_table_has_one_row_per_experiment():
    lines = as_markdown(read_experiments(_csv([100, 500]), "Experiment"), "Experiment").splitlines()
    assert len(lines) == 4
    assert "Semi-supervised" in lines[0]
    assert "run-1" in lines[3]


def test_what_cannot_be_shown_is_said():
    with pytest.raises(UserError, match="colour is not a column"):
        read_experiments(_csv([1]), "colour")
    with pytest.raises(UserError, match="no table came in"):
        read_experiments(io.StringIO(""), "colour")
    with pytest.raises(UserError, match="no experiment with results"):
        read_experiments(io.StringIO("Experiment,rev,unlabeled.size\n,main,\n"), "unlabeled.size")
