"""Classes for images without labels: the stage, the command, and what it writes."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.workspace import CLASSES
from PIL import Image

from stages.evaluation.accuracy import wilson_interval
from stages.evaluation.confidence import confidence_table, describe_confidence
from stages.evaluation.predictions import predictions_table
from stages.images.sources import listing
from stages.images.sources.listing import read_chunks
from stages.labeling.classification import labels_table
from stages.labeling.command import parse_arguments, predict_files
from stages.labeling.sorting import folder_names, require_empty, sort_files
from stages.pipeline.errors import UserError
from stages.pipeline.files import read_array

COMMAND = (sys.executable, "-m", "stages.predict")


def _read(path):
    return pd.read_csv(path, dtype={"file": str, "class": str, "runner_up": str}, keep_default_na=False)


def test_labels_table_agrees_with_test_predictions():
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    logits[7] = 0
    classes = ("a", "b", "c", "d")
    table = labels_table(logits, classes)
    tested = predictions_table(logits, np.zeros(50, np.int64), classes)
    assert table["class"].tolist() == tested["predicted"].tolist()
    assert table["confidence"].tolist() == tested["confidence"].tolist()
    assert (table["class"] != table["runner_up"]).all()
    assert (table["confidence"] >= table["runner_up_confidence"]).all()


def test_confidence_table_counts_and_scores():
    predictions = pd.DataFrame(
        {"actual": list("aaab"), "predicted": list("aaaa"), "confidence": [0.97, 0.85, 0.4, 0.6]}
    )
    table = confidence_table(np.array([0.4, 0.9, 0.96, 0.5]), predictions).set_index("threshold")
    assert table["images"].tolist() == [4, 3, 2, 2, 1, 0]
    assert table["share"].tolist() == [1, 0.75, 0.5, 0.5, 0.25, 0]
    assert table["test_images"].tolist() == [4, 3, 2, 1, 1, 0]
    assert table.loc[0.5, "accuracy"] == pytest.approx(2 / 3, abs=1e-6)
    assert tuple(table.loc[0.5, ["low", "high"]]) == pytest.approx(wilson_interval(2, 3), abs=1e-6)
    assert np.isnan(table.loc[0.99, "accuracy"])
    assert "at least 0.5" in describe_confidence(table.reset_index())
    assert "correct" not in describe_confidence(confidence_table(np.array([0.4]), None))


def test_read_chunks_keeps_order_and_names_broken_files(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_CHUNK", 3)
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for number, file in enumerate(files):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(file)
    files[4].write_bytes(b"no image")
    chunks = list(read_chunks(files, 8, "read"))
    assert [file for chunk in chunks for file in chunk.files] == files
    assert np.concatenate([chunk.images for chunk in chunks])[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 0, 5, 6, 7]
    assert [list(chunk.broken) for chunk in chunks] == [[], [files[4]], []]
    assert list(read_chunks([], 8, "read")) == []


@pytest.mark.parametrize("copy", [False, True])
def test_sort_files_links_or_copies_and_keeps_files_of_one_name_apart(tmp_path, copy):
    files = [tmp_path / place / "x.jpg" for place in ("a", "b", "c")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        file.write_text(str(number))
    sort_files(files, ["cat", "cat", "dog"], tmp_path / "sorted", copy=copy)
    found = sorted((tmp_path / "sorted").rglob("*.jpg"))
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "sorted/cat/x-2.jpg",
        "sorted/cat/x.jpg",
        "sorted/dog/x.jpg",
    ]
    assert [path.read_text() for path in found] == ["1", "0", "2"]
    assert all(path.is_symlink() != copy for path in found)


def test_folder_names_stay_below_their_directory():
    assert folder_names(("a/b", "..", ".x", "c")) == {"a/b": "a_b", "..": "_.", ".x": "_x", "c": "c"}
    for classes in (("a/b", "a_b"), ("unsure", "a")):
        with pytest.raises(UserError, match="cannot have a folder of its own"):
            folder_names(classes)


def test_require_empty_refuses_what_holds_files_or_lies_in_images(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").touch()
    require_empty(tmp_path / "new", [tmp_path / "photos"])
    with pytest.raises(UserError, match="is not empty"):
        require_empty(tmp_path / "mine", [])
    with pytest.raises(UserError, match="lies in"):
        require_empty(tmp_path / "photos" / "sorted", [tmp_path / "photos"])


@pytest.mark.slow
def test_stage_gives_every_unlabelled_image_a_class(finished):
    clone, _ = finished
    table = _read(clone.path / "data/predictions.csv")
    images = clone.path.joinpath(clone.params()["dataset"]["path"])
    assert len(table) == 70
    assert all((images / file).is_file() for file in table["file"])
    assert set(table["class"]) <= {CLASSES[0], f"'{CLASSES[1]}"}
    confidence = pd.read_csv(clone.path / "plots/confidence.csv")
    assert confidence["images"][0] == 70
    assert confidence["test_images"][0] == 20


@pytest.mark.slow
def test_command_classifies_test_images_as_the_pipeline_did(finished, tmp_path):
    clone, _ = finished
    images = clone.params()["dataset"]["path"]
    output, into = tmp_path / "predictions.csv", tmp_path / "sorted"
    printed = clone(
        *COMMAND, f"{images}/test", "--output", str(output), "--into", str(into), "--copy", "--at-least", "0.55"
    )
    table, tested = _read(output), _read(clone.path / "plots/predictions/semi_supervised.csv")
    assert table["file"].tolist() == [f"{images}/{file}" for file in tested["file"]]
    assert table["class"].tolist() == tested["predicted"].tolist()
    assert table["confidence"].to_numpy() == pytest.approx(tested["confidence"].to_numpy(), abs=1e-5)
    assert "20 images classified by models/semi_supervised.safetensors" in printed
    assert f"{tested['actual'].eq(tested['predicted']).mean():.1%}" in printed
    unsure = list(into.glob("unsure/*"))
    assert len(unsure) == (table["confidence"] < 0.55).sum()
    assert len(list(into.rglob("*.png"))) == 20


@pytest.mark.slow
def test_command_passes_over_broken_files_and_writes_nothing_of_others(clone, tmp_path, monkeypatch):
    images = tmp_path / "photos"
    images.mkdir()
    Image.new("RGB", (30, 20), "red").save(images / "red.jpg")
    Image.new("RGB", (30, 20), "red").save(tmp_path / "alone.data", "PNG")
    (images / "broken.jpg").write_bytes(b"no image")
    (images / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in images.iterdir()}
    output = str(tmp_path / "predictions.csv")
    weights = ("--weights", "models/probe.safetensors")
    printed = clone(*COMMAND, str(images), str(tmp_path / "alone.data"), "--output", output, *weights)
    assert "2 images classified by models/probe.safetensors" in printed
    assert "1 left out" in printed
    assert "broken.jpg cannot be read as an image" in printed
    assert "notes.txt" in printed
    assert [Path(file).name for file in _read(output)["file"]] == ["red.jpg", "alone.data"]

    refusals = {
        (str(images), "--output", str(images / "notes.txt")): "is there already",
        (str(images), "--output", output): "is there already",
        (str(images), "--into", str(images)): "is not empty",
        (str(images / "red.jpg"), "--into", str(images / "sorted")): "lies in",
        (str(images), "--copy"): "add --into",
        (str(images), "--at-least", "90", "--into", "x"): "it must be in 0..1",
        (str(tmp_path / "nowhere"),): "nowhere is not there",
        (str(images / "broken.jpg"), "--weights", "models"): "cannot be read as weights",
        (str(images / "broken.jpg"), "--weights", "models/nothing.safetensors"): "is missing",
        (str(images / "broken.jpg"), "--weights", "models/pretrain/projector.safetensors"): "is of another kind",
    }
    monkeypatch.chdir(clone.path)
    for arguments, complaint in refusals.items():
        monkeypatch.setattr(sys, "argv", ["predict", *arguments])
        with pytest.raises(UserError, match=complaint) as error:
            predict_files(parse_arguments(""))
        assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in images.iterdir()} == before


@pytest.mark.slow
def test_stage_refuses_weights_of_other_classes(clone):
    path = clone.path / "data/images/dataset.json"
    content = path.read_text()
    path.unlink()  # It shares its bytes with DVC's cache.
    path.write_text(content.replace(CLASSES[1], "other"))
    assert "knows other classes than data/images" in clone("./stage", "predict", fails=True)
    clone("dvc", "checkout", "-q", "--force")


@pytest.mark.slow
def test_files_of_images_are_named(finished):
    clone, _ = finished
    images = clone.params()["dataset"]["path"]
    tested = _read(clone.path / "plots/predictions/probe.csv")
    assert [file.split("/")[0] for file in tested["file"]] == ["test"] * 20
    assert all((Path(images) / file).is_file() for file in tested["file"])
    shown = read_array(clone.path / "data/embeddings/images.npy", "embed", np.int64)
    page = (clone.path / "plots/evolution.html").read_text()
    assert page.count("train/") >= len(shown)
    assert 'class="file"' in (clone.path / "plots/report.html").read_text()
