"""What README and comparison claim, against the committed results."""

import json
import re
from pathlib import Path

import pytest
import yaml
from helpers.structure import ROOT

from benchmarks.plateau import plateau_table
from benchmarks.suggestions import accuracy_table
from stages.evaluation.accuracy import METHODS, format_interval
from stages.pipeline.files import read_json
from stages.pipeline.image_set import ImageSet
from stages.pipeline.params import load_params
from stages.reporting.comparison import difference_sentences, summarise_runs
from stages.reporting.records import TITLES
from stages.reporting.runs import Setting, find_runs

README = (ROOT / "README.md").read_text()
COMPARISON = (ROOT / "plots/comparison.md").read_text()
METHOD = "|".join(TITLES.values())
CLAIM = re.compile(rf"({METHOD}) (?:is better than|outperforms|beats) ({METHOD.lower()})", re.IGNORECASE)


def _runs():
    settings = read_json(ROOT / "metrics/seeds.json", "compare", list[Setting])
    generated = ImageSet(Path(), "shapes", (), {}, {})
    return summarise_runs(find_runs(settings, load_params(ROOT / "params.yaml").flat(), generated), from_random=False)


def _borne():
    """Return the pairs of methods of which the committed runs say that the first is better."""
    runs = _runs()
    sentences = difference_sentences(runs.differences) if runs else []
    return {tuple(name.lower() for name in pair) for pair in CLAIM.findall("\n".join(sentences))}


@pytest.mark.parametrize("text", [README, COMPARISON], ids=["README", "comparison"])
def test_claims_are_borne_by_committed_runs(text):
    claimed = {tuple(name.lower() for name in pair) for pair in CLAIM.findall(text)}
    assert claimed <= _borne()


def test_a_claim_is_found():
    assert CLAIM.findall("Semi-supervised outperforms linear probe. Fine-tuned is better than supervised.") == [
        ("Semi-supervised", "linear probe"),
        ("Fine-tuned", "supervised"),
    ]


def test_readme_table_holds_committed_results():
    """It gives the mean over the committed runs where there are several, and the committed run otherwise."""
    runs, scores = _runs(), json.loads((ROOT / "metrics/compare.json").read_text())
    for method in METHODS:
        if runs is None:
            values = (scores[method]["accuracy"], *scores[method]["ci95"])
        else:
            values = tuple(runs.accuracy[method][key] for key in ("mean", "low", "high"))
        (row,) = re.findall(rf"^\| {TITLES[method]}.*$", README, re.MULTILINE)
        assert format_interval(*values) in row


def test_readme_names_setting_of_results():
    params, runs = yaml.safe_load((ROOT / "params.yaml").read_text()), _runs()
    assert f"`label_ratio: {params['label_ratio']}`" in README
    seeds = f"seed {params['seed']}" if runs is None else f"seeds {runs.seeds[0]} to {runs.seeds[-1]}"
    assert seeds in README
    assert re.search(r"torch \d+\.\d+", README)
    assert "`make repro`" in README


def test_committed_runs_include_committed_result():
    """A run with the project's seed, if it is among the runs, is the one whose predictions are committed."""
    assert "other code or on another machine" not in COMPARISON


def test_table_of_steps_is_that_of_the_results():
    results = json.loads((ROOT / "benchmarks/results/plateau-shapes.json").read_text())
    page = (ROOT / "docs/methods.md").read_text()
    for row in plateau_table(results).to_dict("records"):
        assert f"| {' | '.join(str(cell) for cell in row.values())} |" in page


def test_table_of_suggestions_is_that_of_the_results():
    results = json.loads((ROOT / "benchmarks/results/suggestions-shapes.json").read_text())
    page = (ROOT / "docs/labels.md").read_text()
    assert f"{results['test_images']:,} test images" in page
    assert results["draws"] == 10
    for row in accuracy_table(results["accuracy"]).to_dict("records"):
        assert f"| {' | '.join(str(cell) for cell in row.values())} |" in page
