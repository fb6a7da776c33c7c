"""The whole pipeline in a temporary clone, on the smallest preset: what it writes, and that it writes it again."""

import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.browser import needs_browser, open_page
from helpers.workspace import ALL_STAGES, CLASSES, started_as_people_do
from PIL import Image

pytestmark = pytest.mark.slow

METHODS = ("supervised", "probe", "fine_tune", "semi_supervised")


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
        assert list(predicted) == ["actual", "predicted", "confidence", "file"]
        assert list(predicted["actual"]) == [CLASSES[0]] * 10 + [f"'{CLASSES[1]}"] * 10
        assert (predicted["actual"] == predicted["predicted"]).mean() == pytest.approx(row["accuracy"])
        study = json.loads((clone.path / "metrics/study/1.0.json").read_text())
        assert study[method].keys() >= {"accuracy", "std", "seeds", "labels"}
        assert study[method]["labels"] == 30
        assert (study[method]["std"], len(study[method]["draws"])) == (None, 1)
    cost = json.loads((clone.path / "metrics/cost/study/1.0.json").read_text())
    assert cost["seconds"].keys() == {"supervised", "fine_tune", "semi_supervised"}
    assert {p.stem for p in (clone.path / "plots/tsne").glob("*.png")} == {"epoch-0", "epoch-1", "epoch-3"}
    assert "Semi-supervised" in (clone.path / "plots/comparison.md").read_text()


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


def test_evaluation_with_same_seed_gives_same_bytes(clone):
    report = (clone.path / "plots/report.html").read_bytes()
    before = clone.results()
    again = ("probe", "embed", "tsne", "compare", "predict")
    with started_as_people_do(clone):
        assert clone.repro("--force", "--single-item", *again) == set(again)
    assert clone.results() == before
    assert (clone.path / "plots/report.html").read_bytes() == report


def test_run_with_other_test_images_gives_same_bytes_but_evaluation(clone):
    """The same seed gives the same weights, and held-out images reach only evaluation."""
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
        "data/images/files.json",
        "data/images/test_labels.npy",
        "metrics/data.json",
        "plots/label.html",
        "plots/calibration.png",
        "plots/class_accuracy.csv",
        "plots/class_accuracy.png",
        "plots/comparison.md",
        "plots/confidence.csv",
        "plots/comparison.png",
        "plots/confusion.png",
        "plots/label_efficiency.csv",
        "plots/label_efficiency.png",
        "metrics/compare.json",
        "metrics/embed.json",
        *(f"metrics/{method}.json" for method in METHODS),
        "metrics/study/1.0.json",
        *(f"plots/predictions/{method}.csv" for method in METHODS),
    }
    assert before.keys() == after.keys()
    assert changed <= evaluation
    assert {f"plots/predictions/{method}.csv" for method in METHODS} <= changed
