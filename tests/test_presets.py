"""Every preset, loaded by every stage, and one training step of each of its models on random images of its size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import random_images, random_pictures
from ruamel.yaml import YAML

from stages.images.subsets import draw_labeled
from stages.images.views import ViewRecipe
from stages.learning.barlow_twins import pretrain
from stages.learning.representation import outputs
from stages.learning.semi_supervised import train_semi_supervised
from stages.learning.supervised import new_classifier, train_supervised
from stages.params import declared_params, load_params

PRESETS = sorted(Path("presets").glob("*.yaml"))
STAGES = list(YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"])
CLASSES = 10


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_loads_every_preset(preset, stage):
    assert declared_params(stage, preset).keys()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_one_step_of_each_model(preset, tmp_path):
    params = load_params(preset)
    strong = ViewRecipe(params.views.size, **dict(params.views.strong))
    weak = ViewRecipe(params.views.size, **dict(params.views.weak))
    few = 8

    pretraining = dict(params.pretrain) | {"epochs": 1, "warmup_epochs": 0, "batch_size": few}
    pretraining.pop("checkpoints")
    kept = []
    size = params.dataset.image_size
    _, projector, trained = pretrain(
        random_pictures(few, size, 0),
        encoder=params.encoder.name,
        stem=params.encoder.stem,
        views=strong,
        seed=0,
        scratch=tmp_path,
        keep=lambda epoch, encoder, projector: kept.append(epoch),
        **pretraining,
    )
    assert np.isfinite(trained.history[-1]["loss"])
    assert kept == [0, 1]

    labels = torch.arange(few) % CLASSES
    start = new_classifier(params.encoder.name, params.encoder.stem, CLASSES, 0)
    for section in ("supervised", "fine_tune"):
        settings = dict(getattr(params, section)) | {"steps": 1, "batch_size": few}
        _, trained = train_supervised(
            start,
            random_images(few, size, 0),
            labels,
            section=section,
            views=strong,
            seed=0,
            scratch=tmp_path,
            **settings,
        )
        assert np.isfinite(trained.history[-1]["loss"])

    joint = dict(params.semi_supervised) | {"steps": 1, "batch_size": few, "unlabeled_batch_size": few}
    model, trained = train_semi_supervised(
        start,
        projector,
        random_images(few, size, 0),
        labels,
        random_pictures(few, size, 0),
        strong=strong,
        weak=weak,
        redundancy_weight=params.pretrain.redundancy_weight,
        seed=0,
        scratch=tmp_path,
        **joint,
    )
    assert set(trained.history[-1]) >= {"cross_entropy", "invariance", "redundancy", "consistency"}
    assert np.isfinite(outputs(model, random_images(2, size, 0), params.views.size)).all()


SIZES = {"shapes": [25] * 10, "stl10": [500] * 10, "photos": [500] * 10, "photos-gpu": [500] * 10}


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_batches_fit_the_fewest_labels_that_are_asked_for(preset):
    params = load_params(preset)
    labels = np.repeat(np.arange(10), SIZES[preset.stem])
    for ratio in [params.label_ratio, *params.study.label_ratios]:
        visible = len(draw_labeled(labels, ratio, params.seed))
        assert params.supervised.batch_size <= visible
        assert params.fine_tune.batch_size <= visible
        assert params.semi_supervised.batch_size <= visible
