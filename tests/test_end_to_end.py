"""The whole pipeline in a temporary clone, on the smallest preset: what runs, what reruns, what comes out."""

import fcntl
import json
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.browser import needs_browser, open_page
from helpers.workspace import CLASSES, Clone, stages_run, tiny_clone
from PIL import Image
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

LABEL_READERS = {"label", "supervised", "probe", "fine_tune", "semi_supervised", "compare"}
METHODS = ("supervised", "probe", "fine_tune", "semi_supervised")
STUDY = {"study@0.2", "study@1.0"}
ALL_STAGES = LABEL_READERS | STUDY | {"download", "sample", "pretrain", "embed", "tsne"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A clone in which the pipeline has run once and its results are committed, and the stages that ran."""
    clone = tiny_clone(tmp_path_factory.mktemp("end_to_end"))
    first = clone.repro()
    clone.commit("results")
    return clone, first


@pytest.fixture
def clone(finished):
    """The finished clone; what a test changes in it is undone afterwards."""
    clone, _ = finished
    yield clone
    clone("git", "checkout", "-q", ".")
    clone("dvc", "checkout", "-q")


def test_repro_runs_every_stage_once(finished):
    clone, first = finished
    assert first == ALL_STAGES
    assert clone.repro() == set()


def test_results_have_documented_form(finished):
    clone, _ = finished
    compare = json.loads((clone.path / "metrics/compare.json").read_text())
    for method in METHODS:
        row = compare[method]
        low, high = row["ci95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1
        assert (row["labels"], row["test_images"]) == (6, 20)
        predicted = pd.read_csv(clone.path / f"plots/predictions/{method}.csv")
        assert list(predicted) == ["actual", "predicted", "confidence"]
        assert list(predicted["actual"]) == [CLASSES[0]] * 10 + [f"'{CLASSES[1]}"] * 10
        assert (predicted["actual"] == predicted["predicted"]).mean() == pytest.approx(row["accuracy"])
        for ratio, labels in (("0.2", 6), ("1.0", 30)):
            study = json.loads((clone.path / f"metrics/study/{ratio}.json").read_text())
            assert study[method].keys() >= {"accuracy", "std", "seeds", "labels"}
            assert study[method]["labels"] == labels
    assert {p.stem for p in (clone.path / "plots/tsne").glob("*.png")} == {"0", "1", "3"}
    assert "Semi-supervised" in (clone.path / "plots/comparison.md").read_text()


def test_report_is_deterministic(clone):
    before = (clone.path / "plots/report.html").read_bytes()
    assert clone.repro("--force", "--single-item", "compare") == {"compare"}
    assert (clone.path / "plots/report.html").read_bytes() == before


@needs_browser
@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("name", ["report", "evolution"])
def test_pages_open_without_error_or_request(finished, name, width):
    clone, _ = finished
    with open_page(clone.path / f"plots/{name}.html", width=width) as (page, wrong):
        page.wait_for_load_state("networkidle")
        assert page.evaluate("Array.from(document.images).every((image) => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert wrong == []


def test_verify_names_every_damaged_and_missing_file(clone):
    verify = (sys.executable, "-m", "stages.verify")
    assert "outputs are what dvc.lock recorded" in clone(*verify)
    rng = np.random.default_rng(0)
    rooms = [clone.path / room for room in ("data", "models")]
    files = [path for room in rooms for path in room.rglob("*") if path.is_file() and path.name != ".gitignore"]
    for path in files:
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.unlink()
        path.write_bytes(content)
    complaint = clone(*verify, fails=True)
    assert [path for path in files if f"{path.relative_to(clone.path)} has changed" not in complaint] == []
    clone("dvc", "checkout", "-q", "--force")
    (clone.path / "models/pretrain/3.safetensors").unlink()
    complaint = clone(*verify, fails=True).splitlines()
    assert complaint[-1].strip() == "models/pretrain/3.safetensors is missing"
    clone("dvc", "checkout", "-q", "--force")


def test_study_equals_comparison_at_same_labels(finished):
    clone, _ = finished
    compare = json.loads((clone.path / "metrics/compare.json").read_text())
    study = json.loads((clone.path / "metrics/study/0.2.json").read_text())
    assert {m: compare[m]["accuracy"] for m in compare} == {m: study[m]["accuracy"] for m in study}


def test_repro_with_same_seed_gives_same_bytes(clone):
    before = clone.results()
    assert clone.repro("--force") == ALL_STAGES
    after = clone.results()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_held_out_images_reach_only_evaluation(clone):
    before = clone.results()
    poisoned = clone.path.parent / "poisoned"
    shutil.copytree(clone.params()["dataset"]["path"], poisoned)
    rng = np.random.default_rng(1)
    for path in (poisoned / "test").rglob("*.png"):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    for number in range(7):
        (poisoned / "test" / CLASSES[0] / f"{number}.png").rename(poisoned / "test" / CLASSES[1] / f"more{number}.png")

    clone.set_parameter("dataset.path", str(poisoned))
    clone.repro("--force")
    after = clone.results()
    changed = {name for name in before if before[name] != after[name]}

    evaluation = {
        "data/images/dataset.json",
        "data/images/test.npy",
        "data/images/test_labels.npy",
        "plots/calibration.png",
        "plots/class_accuracy.csv",
        "plots/class_accuracy.png",
        "plots/comparison.md",
        "plots/comparison.png",
        "plots/confusion.png",
        "plots/label_efficiency.csv",
        "plots/label_efficiency.png",
        "metrics/compare.json",
        *(f"metrics/{method}.json" for method in METHODS),
        *(f"metrics/study/{ratio}.json" for ratio in ("0.2", "1.0")),
        *(f"plots/predictions/{method}.csv" for method in METHODS),
    }
    assert before.keys() == after.keys()
    assert changed <= evaluation
    assert {f"plots/predictions/{method}.csv" for method in METHODS} <= changed


def test_label_ratio_reruns_readers_of_labels(clone):
    output = clone("dvc", "exp", "run", "-n", "half", "-S", "label_ratio=0.5")
    assert stages_run(output) == LABEL_READERS
    clone("git", "checkout", "-q", ".")
    clone("dvc", "checkout", "-q")
    shown = json.loads(clone("dvc", "metrics", "diff", "main", "half", "--json"))
    assert shown["metrics/compare.json"]["probe.labels"] == {"old": 6, "new": 15, "diff": 9}
    assert "half" in clone("dvc", "exp", "show", "--csv")
    clone("dvc", "plots", "diff", "main", "half", "-o", "shown")
    page = (clone.path / "shown/index.html").read_text()
    assert "Label efficiency" in page
    figures = [path.name for path in (clone.path / "shown/static").iterdir()]
    for name in ("plots_comparison.png", "plots_tsne.png", "plots_confusion.png"):
        assert sum(figure.endswith(name) for figure in figures) == 2, figures


def test_seed_reruns_every_stage(clone):
    assert stages_run(clone("dvc", "exp", "run", "-n", "seeded", "-S", "seed=1")) == ALL_STAGES


@pytest.mark.parametrize("change", ["tsne.perplexity=6.0", "tsne.iterations=260"])
def test_tsne_parameters_rerun_tsne_alone(clone, change):
    assert stages_run(clone("dvc", "exp", "run", "-S", change)) == {"tsne"}


def test_linear_probe_code_reruns_probe_study_and_dependents(clone):
    path = clone.path / "stages/methods/linear_probe.py"
    path.write_text(path.read_text() + "\n# No change in what is learnt.\n")
    assert clone.repro() == {"probe", *STUDY}
    path.write_text(path.read_text().replace("max_iter=2000", "max_iter=1"))
    assert clone.repro() == {"probe", "fine_tune", "semi_supervised", *STUDY, "compare"}


def test_study_ratio_added_runs_only_itself(clone):
    assert stages_run(clone("dvc", "exp", "run", "-S", "study.label_ratios=[0.2,0.5,1.0]")) == {"study@0.5", "compare"}


def test_launcher_reruns_no_stage(clone):
    clone.environment["LAUNCH"] = "python -W ignore"
    assert clone.repro() == set()
    del clone.environment["LAUNCH"]


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


@pytest.mark.parametrize(
    ("key", "value", "stage", "complaint"),
    [
        ("label_ratio", "0.01", "label", "label: label_ratio is 0.01, which shows 0 of 30 labels"),
        ("unlabeled.size", "71", "sample", "sample: unlabeled.size is 71, but the image set has 70 unlabelled images"),
        (
            "supervised.batch_size",
            "7",
            "supervised",
            "supervised: supervised.batch_size is 7, but there are only 6 visible labels",
        ),
        ("pretrain.batch_size", "61", "pretrain", "pretrain.batch_size is 61, but there are only 60 unlabelled images"),
        ("tsne.perplexity", "30.0", "tsne", "tsne.perplexity is 30, it must be below the number of images, 30"),
        (
            "pretrain.learning_rate",
            "-1.0",
            "pretrain",
            "params.yaml: pretrain.learning_rate is -1.0: input should be greater than 0",
        ),
        (
            "supervised.learning_rate",
            "1.0e+30",
            "supervised",
            "the loss is no longer finite at step 1 (term cross_entropy",
        ),
        (
            "semi_supervised.batch_size",
            "7",
            "study 0.2",
            "semi_supervised.batch_size is 7, but there are only 6 visible labels at ratio 0.2",
        ),
    ],
)
def test_invalid_input_is_one_line_and_writes_nothing(clone, key, value, stage, complaint):
    clone.set_parameter(key, YAML().load(value))
    before = clone.results()
    output = clone("./stage", *stage.split(), fails=True)
    assert "Traceback" not in output
    assert complaint in output.strip().splitlines()[-1]
    assert clone.results() == before


def test_missing_input_names_stage_to_run(clone):
    (clone.path / "data/labeled.npy").unlink()
    output = clone("./stage", "supervised", fails=True)
    line = output.strip().splitlines()[-1]
    assert line == "supervised: data/labeled.npy is missing: run `dvc repro label` first"


@contextmanager
def mounted(path: Path, options: str):
    """An empty file system of its own at `path`, where this machine lets one be mounted."""
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize(
    ("room", "options", "complaint"),
    [
        (".scratch", "size=1m", "pretrain: what pretrain keeps to resume after an interruption needs"),
        (".scratch", "ro", "pretrain: Read-only file system"),
        ("models", "size=1m", "pretrain: No space left on device"),
        ("models", "ro", "pretrain: Read-only file system"),
    ],
)
def test_full_or_readonly_disk_is_reported_and_loses_nothing(clone, room, options, complaint):
    before = clone.results()
    stage = ("./stage", "pretrain")
    with mounted(clone.path / room, options):
        output = clone(*stage, fails=True)
        assert "Traceback" not in output
        assert complaint in output.strip().splitlines()[-1]
    assert clone.results() == before
    again = subprocess.run(stage, cwd=clone.path, env=clone.environment, capture_output=True, text=True, check=True)
    assert ("resuming after" in again.stderr) == (room == "models")
    assert clone.results() == before
    assert not list((clone.path / ".scratch").glob("pretrain/*"))


def test_clean_scratch_lists_and_removes_leftovers(clone):
    left = clone.path / ".scratch" / "study@0.2" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "state").write_bytes(bytes(3 << 20))
    clean = (sys.executable, "-m", "stages.clean_scratch")
    with (clone.path / ".scratch" / "locks" / "study@0.2").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ".scratch/study@0.2 is kept: its stage is still running" in clone(*clean)
    assert re.fullmatch(r" +3\.0 MiB  \d{4}-\d\d-\d\d \d\d:\d\d  \.scratch/study@0\.2  removed\n", clone(*clean))
    assert clone(*clean) == ""
