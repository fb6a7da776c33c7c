"""Pretraining with its operations fused, against pretraining as it is, and where they cannot be fused."""

import os
import subprocess
import sys

import pytest
import torch
from pictures import random_pictures
from structure import ROOT
from tiny_pretraining import pretrain_tiny

from stages.files import UserError
from stages.images import views
from stages.images.views import ViewRecipe, crop_and_colour, draw_view_parameters, make_views
from stages.learning import barlow_twins, processes, training
from stages.learning.training import can_compile, compiled

RECIPE = ViewRecipe(16, 0.3, True, 0.4, 0.4, 0.4, 0.2, 0.7, 0.3, 0.4, 0.3)
CPU = torch.device("cpu")


class Interrupted(Exception):
    """Raised in the middle of a training."""


@pytest.fixture
def compiler(monkeypatch):
    """One that works, on one thread, with blocks of views that leave a smaller one at the end."""
    if not can_compile(CPU, "these tests"):
        pytest.skip("no working C++ compiler, or none of Python's headers")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(views, "_VIEWS_IN_CACHE", 12)
    torch.compiler.reset()
    yield
    torch.set_num_threads(threads)


def _pretrain(scratch, *, compile, interrupted_after=None):
    def keep(epoch, encoder, projector):
        if epoch == interrupted_after:
            raise Interrupted

    changes = {"views": RECIPE, "learning_rate": 0.0001, "compile": compile}
    encoder, projector, trained = pretrain_tiny(random_pictures(24, 20, 0), scratch, keep, **changes)
    weights = torch.nn.ModuleDict({"encoder": encoder, "projector": projector}).state_dict()
    assert trained.cost["compiled"] == (compile and barlow_twins.can_compile(CPU, "these tests"))
    return weights, [row["loss"] for row in trained.history]


def test_compiled_pretraining_learns_the_same_and_goes_on_where_it_was(compiler, tmp_path):
    expected, expected_losses = _pretrain(tmp_path / "as it is", compile=False)
    weights, losses = _pretrain(tmp_path / "whole", compile=True)
    assert losses != expected_losses, "nothing was compiled"
    assert losses == pytest.approx(expected_losses, rel=0.02)
    assert list(weights) == list(expected)
    for name, weight in weights.items():
        if name.endswith("num_batches_tracked"):
            assert torch.equal(weight, expected[name])
        else:
            torch.testing.assert_close(weight, expected[name], rtol=0.02, atol=0.01)
    with pytest.raises(Interrupted):
        _pretrain(tmp_path / "in two", compile=True, interrupted_after=2)
    torch.compiler.reset()
    again, the_same = _pretrain(tmp_path / "in two", compile=True)
    assert the_same == losses
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())


def test_compiled_views_are_the_same_but_for_rounding(compiler):
    images = torch.randint(0, 256, (47, 40, 52, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for recipe in (RECIPE, ViewRecipe(16, 0.3, True, 0.4, 0.4, 0.4, 0.0, 0.7)):
        p = draw_view_parameters(94, 40, 52, recipe, torch.Generator().manual_seed(2))
        fused, blocks = compiled(crop_and_colour), []

        def counted(some, *rest, fused=fused, blocks=blocks):
            blocks.append(len(some))
            return fused(some, *rest)

        expected, found = (make_views(images, p, 16, change_all) for change_all in (crop_and_colour, counted))
        assert blocks == [6] * 7 + [5]
        assert not torch.equal(found, expected), "nothing was compiled"
        assert found.is_contiguous(memory_format=torch.channels_last)
        sure = ~p.solarize  # a rounding error at the threshold flips a pixel
        torch.testing.assert_close(found[sure], expected[sure], rtol=0, atol=2e-5)


def test_without_a_compiler_a_line_says_so(tmp_path):
    code = "import torch; from stages.learning.training import can_compile; print(can_compile(torch.device('cpu'), 'pretrain.compile'))"
    environment = {**os.environ, "CXX": str(tmp_path / "nothing"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("pretrain.compile: not compiled, since")]
    assert "C++ compiler" in line


def test_without_a_compiler_pretraining_runs_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("stages.learning.barlow_twins.can_compile", lambda device, key: False)
    (expected, losses), (found, the_same) = (_pretrain(tmp_path / str(way), compile=way) for way in (False, True))
    assert losses == the_same
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())


@pytest.mark.parametrize("compiler_is_there", [False, True])
def test_a_compiler_that_came_or_went_does_not_end_what_the_other_way_began(tmp_path, monkeypatch, compiler_is_there):
    able = not compiler_is_there
    monkeypatch.setattr(barlow_twins, "can_compile", lambda device, key: able)
    monkeypatch.setattr(barlow_twins, "compiled", lambda function: function)
    with pytest.raises(Interrupted):
        _pretrain(tmp_path, compile=True, interrupted_after=2)
    kept = sorted(path.name for path in tmp_path.rglob("*.pt"))
    assert kept
    able = compiler_is_there
    with pytest.raises(UserError, match=r"was (not )?compiled, and here it would be .*clean-scratch"):
        _pretrain(tmp_path, compile=True)
    assert sorted(path.name for path in tmp_path.rglob("*.pt")) == kept
    able = not compiler_is_there
    _pretrain(tmp_path, compile=True)


def test_several_processes_are_not_compiled(monkeypatch, capsys):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "is_first", lambda: True)
    assert not can_compile(CPU, "pretrain.compile")
    assert "pretrain.compile: not compiled, since several processes" in capsys.readouterr().err


def test_what_a_compiler_refuses_is_one_line():
    refused = torch.compile(lambda values: values.sin(), backend=lambda graph, inputs: 1 / 0)
    complaint = r"^model and views could not be compiled: set pretrain\.compile to false .*division"
    with pytest.raises(UserError, match=complaint), training._explained("pretrain", CPU):
        refused(torch.ones(2))
