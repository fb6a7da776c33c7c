"""The benchmark on a model and on images that take no time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import contenders, throughput
from benchmarks.contenders import Setting
from stages.learning.training import can_compile

TINY = Setting(projector=(16, 16), view_size=16, batch_size=8, steps=2)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8)


@pytest.mark.parametrize("contender", ["limit", "ours", "usual", "lightly"])
def test_a_contender_can_run_again_and_again(contender, images):
    if contender == "lightly":
        pytest.importorskip("lightly", reason="lightly is not installed")
    run = getattr(contenders, contender)(TINY, images, torch.device("cpu"))
    assert run() > 0
    assert run() > 0


def test_what_is_compiled_can_run_again_and_again(images):
    if not can_compile(torch.device("cpu"), "this test"):
        pytest.skip("no working C++ compiler, or none of Python's headers")
    for contender in (contenders.limit, contenders.ours, contenders.usual):
        run = contender(replace(TINY, compile=True), images, torch.device("cpu"))
        assert run() > 0
        assert run() > 0


def test_the_usual_views_are_those_of_the_recipe():
    crop, flip, jitter, grey, _ = contenders.usual_transform(64).transforms
    recipe = contenders.recipe(64)
    assert (crop.size, crop.scale) == ((recipe.size, recipe.size), (recipe.crop_min, 1.0))
    assert (flip.p, jitter.p, grey.p) == (0.5, recipe.jitter_probability, recipe.greyscale_probability)
    (strengths,) = jitter.transforms
    for name in ("brightness", "contrast", "saturation"):
        strength = getattr(recipe, name)
        assert getattr(strengths, name) == (1 - strength, 1 + strength)
    assert strengths.hue == (-recipe.hue, recipe.hue)


def test_views_are_compared_one_core_each(images, monkeypatch):
    if not can_compile(torch.device("cpu"), "this test"):
        pytest.skip("no working C++ compiler, or none of Python's headers")
    monkeypatch.setattr(throughput, "ROUNDS", 1)
    threads = torch.get_num_threads()
    found = throughput.views_alone(images, size=16, count=8)
    rates = {name: rate["median"] for name, rate in found["views_per_second"].items()}
    assert set(rates) == {"ours", "compiled", "usual"}
    assert found["times_usual"] == pytest.approx(rates["ours"] / rates["usual"], abs=0.01)
    assert found["compiled_times_usual"] == pytest.approx(rates["compiled"] / rates["usual"], abs=0.01)
    assert torch.get_num_threads() == threads


def test_rates_and_shares_go_into_the_table(images, monkeypatch):
    monkeypatch.setattr(throughput, "ROUNDS", 2)
    found = throughput.throughput(TINY, images, torch.device("cpu"))
    rates = found["images_per_second"]
    assert found["share_of_limit"] == pytest.approx(rates["ours"]["median"] / rates["limit"]["median"], abs=1e-3)
    assert set(found["milliseconds_of_a_step"]) >= {"reading", "views", "forward", "backward", "optimizer"}
    assert f"{found['share_of_limit']:.1%}" in throughput.table({"tiny": found})
