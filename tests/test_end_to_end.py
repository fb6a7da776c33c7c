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
from browser import CHROMIUM, opened
from PIL import Image
from ruamel.yaml import YAML
from workspace import CLASSES, Clone, draw_pictures, new_clone, ran, tiny_params

LABEL_READERS = {"label", "supervised", "probe", "fine_tune", "semi_supervised", "compare"}
METHODS = ("supervised", "probe", "fine_tune", "semi_supervised")
STUDY = {"study@0.2", "study@1.0"}
EVERYTHING = LABEL_READERS | STUDY | {"download", "sample", "pretrain", "embed", "tsne"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A clone in which the pipeline has run once and its results are committed, and which stages ran."""
    pictures = tmp_path_factory.mktemp("own") / "pictures"
    draw_pictures(pictures)
    clone = new_clone(tmp_path_factory.mktemp("clone"))
    clone.write(tiny_params(pictures))
    (clone.path / "dvc.lock").unlink(missing_ok=True)
    clone("git", "add", "-A")
    clone("git", "commit", "-qm", "begin")
    first = clone.repro()
    clone("git", "add", "-A")
    clone("git", "commit", "-qm", "results")
    return clone, first


@pytest.fixture
def clone(finished):
    """The finished clone; what a test changes in it is undone afterwards."""
    clone, _ = finished
    yield clone
    clone("git", "checkout", "-q", ".")
    clone("dvc", "checkout", "-q")


def test_everything_runs_once(finished):
    clone, first = finished
    assert first == EVERYTHING
    assert clone.repro() == set()


def test_results_have_the_documented_form(finished):
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


def test_the_report_is_the_same_for_the_same_input(clone):
    before = (clone.path / "plots/report.html").read_bytes()
    assert clone.repro("--force", "--single-item", "compare") == {"compare"}
    assert (clone.path / "plots/report.html").read_bytes() == before


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("name", ["report", "evolution"])
def test_the_pages_open_without_a_complaint_or_a_request(finished, name, width):
    clone, _ = finished
    with opened(clone.path / f"plots/{name}.html", width=width) as (page, wrong):
        page.wait_for_timeout(1000)
        assert page.evaluate("Array.from(document.images).every((image) => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert wrong == []


def test_verify_names_every_flipped_byte_and_missing_file(clone):
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


def test_study_at_the_same_labels_gives_the_same_result(finished):
    clone, _ = finished
    compare = json.loads((clone.path / "metrics/compare.json").read_text())
    study = json.loads((clone.path / "metrics/study/0.2.json").read_text())
    assert {m: compare[m]["accuracy"] for m in compare} == {m: study[m]["accuracy"] for m in study}


def test_same_seed_same_bytes(clone):
    before = clone.bytes()
    assert clone.repro("--force") == EVERYTHING
    after = clone.bytes()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_nothing_but_the_evaluation_sees_the_test_images(clone):
    before = clone.bytes()
    pictures = Path(clone.params()["dataset"]["path"])
    poisoned = clone.path.parent / "poisoned"
    shutil.copytree(pictures, poisoned)
    rng = np.random.default_rng(1)
    for path in (poisoned / "test").rglob("*.png"):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    for number in range(7):
        (poisoned / "test" / CLASSES[0] / f"{number}.png").rename(poisoned / "test" / CLASSES[1] / f"more{number}.png")
    clone.set("dataset.path", str(poisoned))
    clone.repro("--force")
    after = clone.bytes()
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


def test_label_ratio_reruns_what_reads_labels(clone):
    output = clone("dvc", "exp", "run", "-n", "half", "-S", "label_ratio=0.5")
    assert ran(output) == LABEL_READERS
    clone("git", "checkout", "-q", ".")
    clone("dvc", "checkout", "-q")
    shown = json.loads(clone("dvc", "metrics", "diff", "main", "half", "--json"))
    assert shown["metrics/compare.json"]["probe.labels"] == {"old": 6, "new": 15, "diff": 9}
    assert "half" in clone("dvc", "exp", "show", "--csv")
    clone("dvc", "plots", "diff", "main", "half", "-o", "shown")
    page = (clone.path / "shown/index.html").read_text()
    assert "Label efficiency" in page
    pictures = [path.name for path in (clone.path / "shown/static").iterdir()]
    for name in ("plots_comparison.png", "plots_tsne.png", "plots_confusion.png"):
        assert sum(picture.endswith(name) for picture in pictures) == 2, pictures


def test_seed_reruns_everything(clone):
    assert ran(clone("dvc", "exp", "run", "-n", "seeded", "-S", "seed=1")) == EVERYTHING


@pytest.mark.parametrize("change", ["tsne.perplexity=6.0", "tsne.iterations=260"])
def test_tsne_reruns_alone(clone, change):
    assert ran(clone("dvc", "exp", "run", "-S", change)) == {"tsne"}


def test_a_change_in_the_probe_reruns_the_probe_the_study_and_what_reads_the_probe(clone):
    path = clone.path / "stages/learning/linear_probe.py"
    path.write_text(path.read_text() + "\n# No change in what is learnt.\n")
    assert clone.repro() == {"probe", *STUDY}
    path.write_text(path.read_text().replace("max_iter=2000", "max_iter=1"))
    assert clone.repro() == {"probe", "fine_tune", "semi_supervised", *STUDY, "compare"}


def test_a_new_ratio_runs_only_itself(clone):
    assert ran(clone("dvc", "exp", "run", "-S", "study.label_ratios=[0.2,0.5,1.0]")) == {"study@0.5", "compare"}


def test_launcher_changes_nothing(clone):
    clone.environment["LAUNCH"] = "python -W ignore"
    assert clone.repro() == set()
    del clone.environment["LAUNCH"]


def test_results_travel_by_remote(clone, tmp_path):
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
def test_bad_input_is_one_line_and_leaves_nothing_half_written(clone, key, value, stage, complaint):
    clone.set(key, YAML().load(value))
    before = clone.bytes()
    output = clone(sys.executable, "-m", *f"stages.{stage}".split(), fails=True)
    assert "Traceback" not in output
    assert complaint in output.strip().splitlines()[-1]
    assert clone.bytes() == before


def test_a_stage_before_its_turn_says_what_to_run(clone):
    (clone.path / "data/labeled.npy").unlink()
    output = clone(sys.executable, "-m", "stages.supervised", fails=True)
    assert (
        output.strip().splitlines()[-1]
        == "supervised: data/labeled.npy is missing: run `dvc repro label`, or `python -m stages.label`, first"
    )


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
        (".scratch", "size=1m", "pretrain: what pretrain keeps to go on after an interruption needs"),
        (".scratch", "ro", "pretrain: Read-only file system"),
        ("models", "size=1m", "pretrain: No space left on device"),
        ("models", "ro", "pretrain: Read-only file system"),
    ],
)
def test_a_full_or_locked_disk_is_said_and_nothing_is_lost(clone, room, options, complaint):
    before = clone.bytes()
    stage = (sys.executable, "-m", "stages.pretrain")
    with mounted(clone.path / room, options):
        output = clone(*stage, fails=True)
        assert "Traceback" not in output
        assert complaint in output.strip().splitlines()[-1]
    assert clone.bytes() == before
    again = subprocess.run(stage, cwd=clone.path, env=clone.environment, capture_output=True, text=True, check=True)
    assert ("going on after" in again.stderr) == (room == "models")
    assert clone.bytes() == before
    assert not list((clone.path / ".scratch").glob("pretrain/*"))


def test_what_interrupted_runs_left_is_shown_and_removed(clone):
    left = clone.path / ".scratch" / "study@0.2" / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "state").write_bytes(bytes(3 << 20))
    clean = (sys.executable, "-m", "stages.clean_scratch")
    with (clone.path / ".scratch" / "locks" / "study@0.2").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ".scratch/study@0.2 is kept: its run is at work" in clone(*clean)
    assert re.fullmatch(r" +3\.0 MiB  \d{4}-\d\d-\d\d \d\d:\d\d  \.scratch/study@0\.2  removed\n", clone(*clean))
    assert clone(*clean) == ""
