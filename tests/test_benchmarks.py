"""The benchmark on a model and on images that take no time."""

import gc
import json
import multiprocessing
from contextlib import closing
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from helpers.structure import ROOT
from helpers.waiting import wait_until

from benchmarks import contenders, equal_time, interleaver, throughput
from benchmarks.contenders import Setting
from benchmarks.interleaver import Interleaver, interleave
from benchmarks.intervals import rate, ratio
from benchmarks.plateau import plateau_figure, plateau_table
from stages.models.device import device_name
from stages.pipeline.errors import UserError
from stages.pipeline.params import load_params
from stages.reporting.figures.style import figure_png

TINY = Setting(projector=(16, 16), view_size=16, batch_size=8, steps=2)
CPU = torch.device("cpu")


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8)


@pytest.mark.parametrize("contender", ["model_only", "torchvision", "lightly"])
def test_contender_takes_steps_and_ends_its_workers(contender, images):
    if contender == "lightly":
        pytest.importorskip("lightly", reason="lightly is not installed")
    with closing(getattr(contenders, contender)(TINY, images, CPU)) as steps:
        for _ in range(3):
            next(steps)
    gc.collect()
    assert not multiprocessing.active_children()


def test_contender_workers_pause_between_turns(images):
    with closing(contenders.torchvision(TINY, images, CPU)) as steps:
        next(steps)
        workers = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
        assert workers
        for _ in range(2):
            steps.send(True)
            wait_until(
                lambda: all(worker.status() == psutil.STATUS_STOPPED for worker in workers), "a stop of all workers"
            )
            for _ in range(5):
                next(steps)
            assert not any(worker.status() == psutil.STATUS_STOPPED for worker in workers)


@pytest.mark.slow
def test_compiled_contenders_take_steps(compiler, images, tmp_path):
    setting = replace(TINY, compile=True)
    assert contenders.pipeline(setting, images, CPU, tmp_path) > 0
    for contender in (contenders.model_only, contenders.torchvision):
        with closing(contender(setting, images, CPU)) as steps:
            next(steps), next(steps)


def test_interleaver_counts_every_step_and_rotates_contenders(monkeypatch):
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(interleaver, "now", lambda device: clock.seconds)
    monkeypatch.setattr(interleaver, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))

    def contender(name):
        while True:
            clock.seconds += 0.375
            order.append(name)
            if (yield):
                order.append(f"{name} rests")
                yield

    order = []
    taking_turns = Interleaver("host", {"one": contender("one"), "other": contender("other")}, CPU)
    for step in range(15):
        taking_turns.before_step(busy=step == 12)
        clock.seconds += 0.25
        order.append("host")
    found = taking_turns.finish()

    first, second = ([name] * 3 + [f"{name} rests"] for name in ("one", "other"))
    rounds = [
        ["host"] * 4,
        first,
        second,
        ["host"] * 4,
        second,
        first,
        ["host"] * 5,
        first,
        second,
        ["host"] * 2,
        second,
        first,
    ]
    assert order == list(chain.from_iterable(rounds)), "the turn does not end while the host is busy"
    assert found["host"].tolist() == [[5, 1.25], [2, 0.5]], "two rounds are left out"
    assert found["one"].tolist() == found["other"].tolist() == [[3, 1.125]] * 2

    alone = interleave({"one": contender("one"), "other": contender("other")}, 2, CPU)
    assert {name: turns.tolist() for name, turns in alone.items()} == dict.fromkeys(alone, [[3, 1.125]] * 2)


def test_interleaver_refuses_too_few_rounds():
    taking_turns = Interleaver("host", {}, CPU)
    taking_turns.before_step()
    with pytest.raises(ValueError, match="train for more epochs"):
        taking_turns.finish()


def test_ratio_ignores_slowdown_of_whole_rounds():
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1, 3, 50)
    slow, fast = (np.stack([np.full(50, steps), seconds * rng.normal(1, 0.01, 50)], 1) for steps in (10, 20))
    found = ratio(fast, slow)
    assert found["low"] < 2 < found["high"]
    assert found["high"] - found["low"] < 0.03
    speed = rate(slow, 64)
    assert speed["value"] == pytest.approx(64 * slow[:, 0].sum() / slow[:, 1].sum(), abs=0.1)
    assert speed["low"] < speed["value"] < speed["high"]


def test_torchvision_transform_equals_recipe():
    crop, flip, jitter, grey, _ = contenders.torchvision_transform(64).transforms
    recipe = contenders.pipeline_recipe(64)
    assert (crop.size, crop.scale) == ((recipe.size, recipe.size), (recipe.crop_min, 1.0))
    assert (flip.p, jitter.p, grey.p) == (0.5, recipe.jitter_probability, recipe.greyscale_probability)
    (strengths,) = jitter.transforms
    for name in ("brightness", "contrast", "saturation"):
        strength = getattr(recipe, name)
        assert getattr(strengths, name) == (1 - strength, 1 + strength)
    assert strengths.hue == (-recipe.hue, recipe.hue)


@pytest.mark.slow
def test_measure_views_compares_on_one_core(compiler, images, monkeypatch):
    monkeypatch.setattr(interleaver, "SECONDS_PER_TURN", 0.05)
    monkeypatch.setattr(throughput, "VIEW_ROUNDS", 3)
    threads = torch.get_num_threads()
    found = throughput.measure_views(images, size=16, batch_size=5)
    rates = {name: speed["value"] for name, speed in found["views_per_second"].items()}
    assert set(rates) == {"pipeline", "compiled", "torchvision"}
    speedups = found["speedup_over_torchvision"], found["compiled_speedup_over_torchvision"]
    for name, speedup in zip(("pipeline", "compiled"), speedups, strict=True):
        assert speedup["value"] == pytest.approx(rates[name] / rates["torchvision"], rel=0.01)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_measure_throughput_reports_rates_and_ratios(images, monkeypatch):
    monkeypatch.setattr(interleaver, "SECONDS_PER_TURN", 0.001)
    # A slow disk would make it one long turn.
    monkeypatch.setattr("stages.training.checkpointer.write_bytes", lambda *arguments: None)
    found = throughput.measure_throughput(replace(TINY, epochs=10), images, CPU)
    rates = {name: speed["value"] for name, speed in found["images_per_second"].items()}
    assert set(rates) >= {"pipeline", "model_only", "torchvision"}
    assert found["share_of_model_only"]["value"] == pytest.approx(rates["pipeline"] / rates["model_only"], rel=0.01)
    assert found["speedup_over_torchvision"]["value"] == pytest.approx(
        rates["pipeline"] / rates["torchvision"], rel=0.01
    )
    assert set(found["step_milliseconds"]) >= {"reading", "views", "forward", "backward", "optimizer"}
    assert f"{found['share_of_model_only']['value']:.1%} (" in throughput.results_table({"tiny": found})
    assert not multiprocessing.active_children()


def test_results_table_shows_committed_results():
    results = json.loads((ROOT / "benchmarks/results/cpu-2-threads-avx512-bfloat16-amd-epyc.json").read_text())
    lines = throughput.results_table(results).splitlines()
    assert "| narrow " in lines[2]
    assert "311.0 (300.4 to 320.5)" in lines[2]


def test_plateau_table_gives_gain_of_doubling():
    accuracies = {25: 0.5, 50: 0.7, 100: 0.8, 200: 0.81}
    points = [
        {"method": "supervised", "draw": draw, "steps": steps, "accuracy": accuracy + 0.1 * (draw - 1), "images": 9}
        for draw in (1, 2)
        for steps, accuracy in accuracies.items()
    ]
    results = {
        "machine": "cpu",
        "inputs": "",
        "steps": {"supervised": 100},
        "points": [*points, {**points[0], "draw": 3}],
    }
    (row,) = plateau_table(results).to_dict("records")
    assert (row["steps"], row["draws"], row["the preset's steps"], row["twice"]) == ("100", 2, "85.0%", "86.0%")
    assert row["doubling gains (points)"] == "+1.0"
    figure_png(plateau_figure(results))


def test_equal_time_gives_each_method_the_same_seconds_and_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics" / "cost").mkdir(parents=True)
    score = {"accuracy": 0.9, "ci95": [0.6, 1.0], "labels": 5, "test_images": 10}
    (tmp_path / "metrics" / "semi_supervised.json").write_text(json.dumps({"semi_supervised": score}))
    machine = {"device": device_name(CPU), "torch": torch.__version__}

    def write_costs(**seconds):
        for stage, value in seconds.items():
            cost = json.dumps(machine | {"seconds": value})
            (tmp_path / "metrics" / "cost" / f"{stage}.json").write_text(cost)

    trained = []

    def train_and_test(params, images, labeled, method, steps):
        trained.append((method, params.semi_supervised.init, params.semi_supervised.barlow_weight, steps))
        return 101.0, 0.8

    monkeypatch.setattr(equal_time, "open_images", lambda: SimpleNamespace(test=range(10), checksums={}))
    monkeypatch.setattr(equal_time, "read_array", lambda *_: np.arange(5))
    monkeypatch.setattr(equal_time, "train_and_test", train_and_test)
    params, path = load_params(ROOT / "presets/shapes.yaml"), tmp_path / "results.json"
    write_costs(pretrain=60.0, semi_supervised=40.0, supervised=20.0)
    expected = [
        ("supervised", "pretrained", params.semi_supervised.barlow_weight, 5 * params.supervised.steps),
        ("semi_supervised", "random", 0.0, round(2.5 * params.semi_supervised.steps)),
    ]
    for _ in range(2):
        results = equal_time.measure(params, path)
        assert trained == expected
        assert list(equal_time.equal_time_table(results)["test accuracy"]) == ["90.0%", "80.0%", "80.0%"]

    equal_time.measure(params.model_copy(update={"seed": 7}), path)
    assert trained == 2 * expected
    machine["device"] = "another"
    write_costs(pretrain=60.0)
    with pytest.raises(UserError, match="pretrain took its seconds on another"):
        equal_time.measure(params, path)


def test_equal_time_trains_from_the_first_step(tmp_path, monkeypatch):
    """What an earlier training left is not gone on from."""
    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.setattr(equal_time, "SCRATCH", left)
    monkeypatch.setattr(equal_time, "train", lambda *_, **__: left.exists())
    monkeypatch.setattr(
        equal_time, "predict", lambda model, *_: pd.DataFrame({"actual": [False], "predicted": [model]})
    )
    params = load_params(ROOT / "presets/shapes.yaml")
    assert equal_time.train_and_test(params, None, np.arange(5), "supervised", 3)[1] == 1.0
