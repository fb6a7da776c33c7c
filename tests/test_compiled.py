"""Pretraining with its operations fused, against pretraining as it is, and where they cannot be fused."""

import os
import subprocess
import sys

import pytest
import torch
from pictures import random_pictures
from structure import ROOT

from stages.images import views
from stages.images.views import ViewRecipe, adjust_colours, draw_view_parameters, make_views
from stages.learning import processes
from stages.learning.barlow_twins import pretrain
from stages.learning.training import compiled

RECIPE = ViewRecipe(16, 0.3, True, 0.4, 0.4, 0.4, 0.2, 0.7, 0.3, 0.4, 0.3)
CPU = torch.device("cpu")


class Interrupted(Exception):
    """Raised in the middle of a training."""


def _pretrain(scratch, *, compile, interrupted_after=None):
    def keep(epoch, encoder, projector):
        if epoch == interrupted_after:
            raise Interrupted

    encoder, projector, trained = pretrain(
        random_pictures(24, 20, 0),
        encoder="narrow",
        stem="conv3_stride2",
        projector=[16, 16],
        views=RECIPE,
        epochs=3,
        batch_size=8,
        learning_rate=0.0001,
        warmup_epochs=1,
        weight_decay=0.01,
        redundancy_weight=0.01,
        compile=compile,
        seed=0,
        scratch=scratch,
        keep=keep,
    )
    weights = torch.nn.ModuleDict({"encoder": encoder, "projector": projector}).state_dict()
    return weights, [row["loss"] for row in trained.history]


def test_compiled_pretraining_learns_the_same_and_goes_on_where_it_was(tmp_path):
    _, expected = _pretrain(tmp_path / "as it is", compile=False)
    weights, losses = _pretrain(tmp_path / "whole", compile=True)
    assert losses == pytest.approx(expected, rel=0.02)
    with pytest.raises(Interrupted):
        _pretrain(tmp_path / "in two", compile=True, interrupted_after=2)
    again, the_same = _pretrain(tmp_path / "in two", compile=True)
    assert the_same == losses
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    assert not any("_orig_mod" in name for name in weights)


def test_compiled_colours_are_the_same_but_for_rounding(monkeypatch):
    monkeypatch.setattr(views, "_VIEWS_IN_CACHE", 10)
    images = torch.randint(0, 256, (48, 40, 52, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for recipe in (RECIPE, ViewRecipe(16, 0.3, True, 0.4, 0.4, 0.4, 0.0, 0.7)):
        p = draw_view_parameters(96, 40, 52, recipe, torch.Generator().manual_seed(2))
        expected = make_views(images, p, 16)
        found = make_views(images, p, 16, compiled(adjust_colours, CPU, "compile"))
        assert found.is_contiguous(memory_format=torch.channels_last)
        sure = ~p.solarize  # a rounding error at the threshold flips a pixel
        torch.testing.assert_close(found[sure], expected[sure], rtol=0, atol=2e-5)


def test_without_a_compiler_a_line_says_so_and_the_model_runs_as_it_is(tmp_path):
    code = """
import torch
from stages.learning.training import compiled
double = lambda values: 2 * values
assert compiled(double, torch.device("cpu"), "pretrain.compile") is double
"""
    environment = {**os.environ, "CXX": str(tmp_path / "nothing"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, stderr=subprocess.PIPE, text=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("pretrain.compile is true, but the model")]
    assert len(lines) == 1
    assert "C++ compiler" in lines[0]


def test_several_processes_are_not_compiled(monkeypatch, capsys):
    monkeypatch.setattr(processes, "count", lambda: 2)
    assert compiled(adjust_colours, CPU, "pretrain.compile") is adjust_colours
    assert "several processes" in capsys.readouterr().err
