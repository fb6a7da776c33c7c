"""Classifiers as files that run without this project."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.structure import ROOT
from PIL import Image, ImageOps

from stages.export import export
from stages.images.sources.decoding import read_image
from stages.labeling.classification import classify_files
from stages.labeling.portable import PhotoClassifier, onnx_difference, onnx_model, resize_central_square
from stages.models.checkpoints import load_classifier, save_classifier
from stages.models.encoders import build_classifier
from stages.pipeline.errors import UserError

CLASSES = ("heron", "größer", '"swan"')
SHAPES = [(97, 97), (120, 97), (97, 120), (31, 50), (2, 9), (300, 201), (200, 1600)]


def _photo(height, width, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "semi_supervised.safetensors"
    model = build_classifier("narrow", "conv3_stride2", len(CLASSES), 0)
    with torch.no_grad():
        torch.nn.init.normal_(model.head.weight)
    save_classifier(model, CLASSES, 48, 32, path)
    return path


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_resize_central_square_agrees_with_pillow(height, width):
    photo = _photo(height, width)
    expected = np.asarray(ImageOps.fit(photo, (48, 48), Image.Resampling.LANCZOS)).astype(int)
    found = resize_central_square(torch.from_numpy(np.array(photo)), 48).round().numpy()
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.3


def test_photo_classifier_agrees_with_predictions_for_files(weights, tmp_path):
    files, classifier = [tmp_path / f"{number}.png" for number in range(len(SHAPES))], load_classifier(weights)
    for file, (height, width) in zip(files, SHAPES, strict=True):
        _photo(height, width, seed=height).save(file)
    table, _ = classify_files(classifier, files, torch.device("cpu"))
    module = PhotoClassifier(classifier)
    for file, confidence, name in zip(files, table["confidence"], table["class"], strict=True):
        with torch.no_grad():
            probabilities = module(torch.from_numpy(np.array(Image.open(file))))
        assert CLASSES[int(probabilities.argmax())] == name
        assert float(probabilities.max()) == pytest.approx(confidence, abs=0.02)
        with torch.no_grad():
            of_small = module(torch.from_numpy(np.array(read_image(file, 48))))
        assert float(of_small.max()) == pytest.approx(confidence, abs=1e-5)


@pytest.mark.slow
def test_onnx_model_agrees_with_pytorch(weights):
    classifier = load_classifier(weights)
    images = [np.array(_photo(height, width, seed=height)) for height, width in SHAPES]
    assert onnx_difference(classifier, onnx_model(classifier), images) < 1e-5


@pytest.mark.slow
def test_documented_lines_run_without_the_project(weights, tmp_path):
    export(weights, "onnx", tmp_path / "classifier.onnx")
    _photo(300, 200).save(tmp_path / "photo.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/labels.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", "import sys; sys.modules['torch'] = sys.modules['stages'] = None\n" + code]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    with torch.no_grad():
        image = torch.from_numpy(np.array(Image.open(tmp_path / "photo.jpg")))
        probabilities = PhotoClassifier(load_classifier(weights))(image)
    assert said == f"{CLASSES[int(probabilities.argmax())]} {float(probabilities.max()):.0%}\n"


@pytest.mark.slow
def test_torch_program_runs_on_any_size(weights, tmp_path):
    export(weights, "torch", tmp_path / "classifier.pt2")
    names = {"classes.json": ""}
    program = torch.export.load(tmp_path / "classifier.pt2", extra_files=names).module()
    assert json.loads(names["classes.json"]) == list(CLASSES)
    expected = PhotoClassifier(load_classifier(weights))
    with torch.no_grad():
        for height, width in SHAPES:
            image = torch.from_numpy(np.array(_photo(height, width)))
            assert torch.allclose(program(image), expected(image), atol=1e-5)


def test_export_replaces_nothing_and_names_what_is_wrong(weights, tmp_path):
    taken = tmp_path / "mine.onnx"
    taken.write_text("mine")
    with pytest.raises(UserError, match=r"mine\.onnx is there already"):
        export(weights, "onnx", taken)
    assert taken.read_text() == "mine"
    with pytest.raises(UserError, match=r"cannot be read|is damaged|of another kind"):
        export(taken, "onnx", tmp_path / "other.onnx")
