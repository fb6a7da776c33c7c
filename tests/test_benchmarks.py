"""The benchmark on a model and on images that take no time."""

import gc
import multiprocessing
import time
from contextlib import closing
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from benchmarks import contenders, throughput, turns
from benchmarks.contenders import Setting
from stages.learning.training import can_compile

TINY = Setting(projector=(16, 16), view_size=16, batch_size=8, steps=2)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8)


@pytest.mark.parametrize("contender", ["limit", "usual", "lightly"])
def test_a_guest_takes_step_after_step_and_its_workers_end_with_it(contender, images):
    if contender == "lightly":
        pytest.importorskip("lightly", reason="lightly is not installed")
    with closing(getattr(contenders, contender)(TINY, images, torch.device("cpu"))) as work:
        for _ in range(3):
            next(work)
    gc.collect()
    assert not multiprocessing.active_children()


def test_workers_stand_still_while_others_have_their_turn(images):
    with closing(contenders.usual(TINY, images, torch.device("cpu"))) as work:
        next(work)
        workers = [psutil.Process(child.pid) for child in multiprocessing.active_children()]
        assert workers
        for _ in range(2):
            work.send(True)
            deadline = time.monotonic() + 5
            while not all(worker.status() == psutil.STATUS_STOPPED for worker in workers):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for _ in range(5):
                next(work)
            assert not any(worker.status() == psutil.STATUS_STOPPED for worker in workers)


def test_what_is_compiled_takes_step_after_step(images, tmp_path):
    if not can_compile(torch.device("cpu"), "this test"):
        pytest.skip("no working C++ compiler, or none of Python's headers")
    setting = replace(TINY, compile=True)
    assert contenders.ours(setting, images, torch.device("cpu"), tmp_path) > 0
    for contender in (contenders.limit, contenders.usual):
        with closing(contender(setting, images, torch.device("cpu"))) as work:
            next(work), next(work)


def test_every_step_of_the_host_is_in_one_turn_and_guests_follow_each(monkeypatch):
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(turns, "now", lambda device: clock.seconds)
    monkeypatch.setattr(turns, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))

    def guest(name):
        while True:
            clock.seconds += 0.375
            order.append(name)
            if (yield):
                order.append(f"{name} rests")
                yield

    order = []
    taking = turns.Turns("host", {"one": guest("one"), "other": guest("other")}, torch.device("cpu"))
    for step in range(15):
        taking.between_steps(busy=step == 12)
        clock.seconds += 0.25
        order.append("host")
    found = taking.finish()
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
    alone = turns.in_turn({"one": guest("one"), "other": guest("other")}, 2, torch.device("cpu"))
    assert {name: found.tolist() for name, found in alone.items()} == dict.fromkeys(alone, [[3, 1.125]] * 2)


def test_a_host_that_is_done_too_soon_is_an_error():
    taking = turns.Turns("host", {}, torch.device("cpu"))
    taking.between_steps()
    with pytest.raises(ValueError, match="take more epochs"):
        taking.finish()


def test_what_slows_a_round_down_is_no_difference():
    rng = np.random.default_rng(0)
    seconds = rng.uniform(1, 3, 50)
    slow, fast = (np.stack([np.full(50, steps), seconds * rng.normal(1, 0.01, 50)], 1) for steps in (10, 20))
    found = turns.ratio(fast, slow)
    assert found["low"] < 2 < found["high"]
    assert found["high"] - found["low"] < 0.03
    speed = turns.rate(slow, 64)
    assert speed["value"] == pytest.approx(64 * slow[:, 0].sum() / slow[:, 1].sum(), abs=0.1)
    assert speed["low"] < speed["value"] < speed["high"]


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
    monkeypatch.setattr(turns, "SECONDS_OF_A_TURN", 0.05)
    monkeypatch.setattr(throughput, "ROUNDS_OF_VIEWS", 3)
    threads = torch.get_num_threads()
    found = throughput.views_alone(images, size=16, batch_size=5)
    rates = {name: rate["value"] for name, rate in found["views_per_second"].items()}
    assert set(rates) == {"ours", "compiled", "usual"}
    assert found["times_usual"]["value"] == pytest.approx(rates["ours"] / rates["usual"], rel=0.01)
    assert found["compiled_times_usual"]["value"] == pytest.approx(rates["compiled"] / rates["usual"], rel=0.01)
    assert torch.get_num_threads() == threads


def test_rates_and_ratios_go_into_the_table(images, monkeypatch):
    monkeypatch.setattr(turns, "SECONDS_OF_A_TURN", 0.001)
    monkeypatch.setattr(
        "stages.learning.states.write_bytes", lambda *given: None
    )  # A slow disk would make it one long turn.
    found = throughput.throughput(replace(TINY, epochs=10), images, torch.device("cpu"))
    rates = {name: rate["value"] for name, rate in found["images_per_second"].items()}
    assert set(rates) >= {"ours", "limit", "usual"}
    assert found["share_of_limit"]["value"] == pytest.approx(rates["ours"] / rates["limit"], rel=0.01)
    assert found["times_usual"]["value"] == pytest.approx(rates["ours"] / rates["usual"], rel=0.01)
    assert set(found["milliseconds_of_a_step"]) >= {"reading", "views", "forward", "backward", "optimizer"}
    assert f"{found['share_of_limit']['value']:.1%} (" in throughput.table({"tiny": found})
    assert not multiprocessing.active_children()
