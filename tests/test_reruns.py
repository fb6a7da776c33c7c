"""The whole pipeline in a temporary clone, on the smallest preset: what a change reruns, and what it leaves alone."""

import json
import shutil

import pytest
from helpers.workspace import ALL_STAGES, LABEL_READERS, STUDY, Clone, stages_run, started_as_people_do

from stages.evaluation.accuracy import METHODS

pytestmark = pytest.mark.slow


def test_label_ratio_reruns_readers_of_labels(clone):
    output = clone("dvc", "exp", "run", "-n", "half", "-S", "label_ratio=0.5")
    assert stages_run(output) == LABEL_READERS
    clone("git", "checkout", "-q", ".")
    clone("dvc", "checkout", "-q")
    shown = json.loads(clone("dvc", "metrics", "diff", "main", "half", "--json"))
    assert shown["metrics/probe.json"]["probe.labels"] == {"old": 6, "new": 15, "diff": 9}
    assert "half" in clone("dvc", "exp", "show", "--csv")
    show = ("dvc", "exp", "show", "--no-pager", "--drop", ".*", "--keep", r"Experiment|.*\.accuracy")
    _check_table(clone("env", "COLUMNS=120", *show))
    clone("dvc", "plots", "diff", "main", "half", "-o", "shown")
    page = (clone.path / "shown/index.html").read_text()
    assert "Label efficiency" in page
    figures = [path.name for path in (clone.path / "shown/static").iterdir()]
    for name in ("plots_comparison.png", "plots_tsne.png", "plots_confusion.png"):
        assert sum(figure.endswith(name) for figure in figures) == 2, figures


def _check_table(table):
    """Check that the table of experiments has a column for each method and fits 120 columns, which DVC is told."""
    for method in METHODS:
        assert f"{method}.accuracy" in table
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 120


def test_seed_reruns_every_stage(clone):
    """Predictions, which are not random, follow the weights."""
    clone.set_parameter("seed", 1)
    assert clone.repro("--dry") | {"predict"} == ALL_STAGES


def test_tsne_parameters_rerun_tsne_alone(clone):
    changes = ("-S", "tsne.perplexity=6.0", "-S", "tsne.iterations=260")
    assert stages_run(clone("dvc", "exp", "run", *changes)) == {"tsne"}


def test_linear_probe_code_reruns_probe_study_and_dependents(clone):
    path = clone.path / "stages/methods/linear_probe.py"
    path.write_text(path.read_text() + "\n# No change in what is learnt.\n")
    assert clone.repro() == {"probe", *STUDY, "compare"}  # The study's cost has changed.
    path.write_text(path.read_text().replace("max_iter=2000", "max_iter=1"))
    assert clone.repro() == {"probe", "fine_tune", "semi_supervised", *STUDY, "compare", "predict"}


def test_study_ratio_added_runs_only_itself(clone):
    assert stages_run(clone("dvc", "exp", "run", "-S", "study.label_ratios=[0.5,1.0]")) == {"study@0.5", "compare"}


def test_changed_folder_reruns_stages_that_read_it(clone, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(clone.params()["dataset"]["path"], images)
    clone.set_parameter("dataset.path", str(images))
    assert clone.repro("download") == {"download"}
    assert _changed(clone) == {"compare", "suggest"}  # The report and the page to label on state the path.

    # Labels for two images that had none: pretraining is not concerned.
    rows = ["unlabeled/0.png", "unlabeled/1.png"]
    (images / "labels.csv").write_text("\n".join(["picture,class", *(f"{row},owl" for row in rows)]))
    assert clone.repro("download") == {"download"}
    assert _changed(clone) == ALL_STAGES - {"download", "sample", "pretrain"}

    shutil.copy(images / "unlabeled" / "0.png", images / "unlabeled" / "more.png")
    assert clone.repro("download") == {"download"}
    assert _changed(clone) == ALL_STAGES - {"download"}

    # A folder that is not there is not read again.
    images.rename(tmp_path / "away")
    assert clone.repro("download") == set()
    (tmp_path / "away").rename(images)
    assert clone.repro("download") == set()

    # Neither what is not an image nor a hidden file changes the image set.
    (images / "unlabeled" / ".hidden.png").touch()
    assert clone.repro("download") == set()
    (images / "unlabeled" / "notes.txt").touch()
    assert clone.repro("download") == {"download"}
    assert clone.repro("download") == set()


def _changed(clone):
    """Return the stages whose inputs have changed."""
    return set(json.loads(clone("dvc", "status", "--json"))) - {"scan"}


def test_launcher_reruns_no_stage(clone):
    with started_as_people_do(clone):
        clone.environment["LAUNCH"] = "python -W ignore"
        assert clone.repro() == set()


def test_remote_carries_results(clone, tmp_path):
    clone("dvc", "remote", "add", "--local", "store", str(tmp_path / "store"))
    clone("dvc", "push", "-q", "-r", "store")
    clone("git", "clone", "-q", str(clone.path), str(tmp_path / "other"))
    other = Clone(tmp_path / "other")
    other("dvc", "remote", "add", "--local", "store", str(tmp_path / "store"))
    other("dvc", "pull", "-q", "-r", "store")
    assert other.repro() == set()
    assert other("git", "status", "--porcelain") == ""
    clone("dvc", "remote", "remove", "--local", "store")
