"""Every preset, read by every stage, and one training step of each of its models on random images of its size."""

import numpy as np
import pytest
import torch
from helpers.images import random_images, random_pool
from helpers.structure import ROOT
from ruamel.yaml import YAML

from stages.images.subsets import draw_labeled
from stages.images.views import view_recipe
from stages.methods.barlow_twins import pretrain
from stages.methods.semi_supervised import train_semi_supervised
from stages.methods.supervised import train_supervised
from stages.models.batches import LabeledImages
from stages.models.encoders import build_classifier
from stages.models.features import extract_features
from stages.pipeline.params import declared_params, load_params

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
STAGES = list(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])
CLASSES = 10
IMAGES = 8
QUICK = ("shapes", "photos")  # Presets of the narrow encoder.

each_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)


@each_preset
@pytest.mark.parametrize("stage", STAGES)
def test_preset_loads_in_every_stage(preset, stage):
    assert declared_params(stage, preset).flat()


@pytest.mark.parametrize(
    "preset",
    [path if path.stem in QUICK else pytest.param(path, marks=pytest.mark.slow) for path in PRESETS],
    ids=lambda path: path.stem,
)
def test_preset_trains_one_step_of_each_model(preset, tmp_path):
    params = load_params(preset)
    size, strong = params.dataset.image_size, view_recipe(params.views.size, params.views.strong)

    changes = {"epochs": 1, "warmup_epochs": 0, "batch_size": IMAGES}
    settings = params.pretrain.model_copy(update=changes)
    kept = []
    _, projector, result = pretrain(
        random_pool(IMAGES, size, 0),
        params.encoder,
        strong,
        settings,
        seed=0,
        scratch=tmp_path,
        after_epoch=lambda epoch, encoder, projector: kept.append(epoch),
    )
    assert np.isfinite(result.history[-1]["loss"])
    assert kept == [0, 1]

    labeled = LabeledImages(random_images(IMAGES, size, 0), torch.arange(IMAGES) % CLASSES)
    start = build_classifier(params.encoder.name, params.encoder.stem, CLASSES, 0)
    for section in ("supervised", "fine_tune"):
        settings = getattr(params, section).model_copy(update={"steps": 1, "batch_size": IMAGES})
        _, result = train_supervised(start, labeled, section, strong, settings, seed=0, scratch=tmp_path)
        assert np.isfinite(result.history[-1]["loss"])

    changes = {"steps": 1, "batch_size": IMAGES, "unlabeled_batch_size": IMAGES}
    model, result = train_semi_supervised(
        start,
        projector,
        labeled,
        random_pool(IMAGES, size, 0),
        params.views,
        params.semi_supervised.model_copy(update=changes),
        params.pretrain.redundancy_weight,
        seed=0,
        scratch=tmp_path,
    )
    assert set(result.history[-1]) >= {"cross_entropy", "invariance", "redundancy", "consistency"}
    assert np.isfinite(extract_features(model, random_images(2, size, 0), params.views.size)).all()


@each_preset
def test_preset_batches_fit_fewest_labels(preset):
    params = load_params(preset)
    images_per_class = 25 if preset.stem == "shapes" else 500
    labels = np.repeat(np.arange(CLASSES), images_per_class)
    for ratio in [params.label_ratio, *params.study.label_ratios]:
        visible = len(draw_labeled(labels, ratio, params.seed))
        assert params.supervised.batch_size <= visible
        assert params.fine_tune.batch_size <= visible
        assert params.semi_supervised.batch_size <= visible
