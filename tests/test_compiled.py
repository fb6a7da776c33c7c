"""Compiled pretraining against eager pretraining, and where nothing can be compiled."""

import os
import subprocess
import sys

import pytest
import torch
from helpers.images import random_pool
from helpers.structure import ROOT
from helpers.tiny_pretraining import pretrain_tiny

from stages.images.views import ViewRecipe, crop_and_colour, draw_view_parameters, make_views
from stages.methods import barlow_twins
from stages.models import distributed
from stages.pipeline.errors import UserError
from stages.training import loop
from stages.training.compilation import can_compile, compiled

pytestmark = pytest.mark.slow

RECIPE = ViewRecipe(16, 0.3, True, 0.4, 0.4, 0.4, 0.2, 0.7, 0.3, 0.4, 0.3)
CPU = torch.device("cpu")


class Interrupted(Exception):
    """Raised in the middle of a training."""


@pytest.fixture
def one_thread(compiler):
    """A compiler, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _pretrain(scratch, *, compile, interrupted_after=None):
    def keep(epoch, encoder, projector):
        if epoch == interrupted_after:
            raise Interrupted

    changes = {"views": RECIPE, "learning_rate": 0.0001, "compile": compile}
    encoder, projector, result = pretrain_tiny(random_pool(24, 20, 0), scratch, keep, **changes)
    weights = torch.nn.ModuleDict({"encoder": encoder, "projector": projector}).state_dict()
    assert result.cost["compiled"] == (compile and barlow_twins.can_compile(CPU, "these tests"))
    return weights, [row["loss"] for row in result.history]


def test_compiled_pretraining_equals_eager_and_resumes(one_thread, tmp_path):
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


def test_compiled_views_equal_eager_up_to_rounding(one_thread):
    images = torch.randint(0, 256, (47, 40, 52, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for recipe in (RECIPE, ViewRecipe(16, 0.3, True, 0.4, 0.4, 0.4, 0.0, 0.7)):
        p = draw_view_parameters(94, 40, 52, recipe, torch.Generator().manual_seed(2))
        transforms = (crop_and_colour, compiled(crop_and_colour))
        expected, found = (make_views(images, p, 16, transform) for transform in transforms)
        assert not torch.equal(found, expected), "nothing was compiled"
        assert found.is_contiguous(memory_format=torch.channels_last)
        sure = ~p.solarize  # a rounding error at the threshold flips a pixel
        torch.testing.assert_close(found[sure], expected[sure], rtol=0, atol=2e-5)


def test_can_compile_reports_missing_compiler(tmp_path):
    code = (
        "import torch; from stages.training.compilation import can_compile; "
        "print(can_compile(torch.device('cpu'), 'pretrain.compile'))"
    )
    environment = {**os.environ, "CXX": str(tmp_path / "nothing"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("pretrain.compile: not compiled, since")]
    assert "C++ compiler" in line


def test_pretraining_without_compiler_runs_eagerly(tmp_path, monkeypatch):
    monkeypatch.setattr("stages.methods.barlow_twins.can_compile", lambda device, key: False)
    (expected, losses), (found, the_same) = (_pretrain(tmp_path / str(way), compile=way) for way in (False, True))
    assert losses == the_same
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())


@pytest.mark.parametrize("compiler_is_there", [False, True])
def test_checkpoint_of_other_compilation_mode_is_refused_and_kept(tmp_path, monkeypatch, compiler_is_there):
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


def test_can_compile_is_false_with_several_processes(monkeypatch, capsys):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "is_writer", lambda: True)
    assert not can_compile(CPU, "pretrain.compile")
    assert "pretrain.compile: not compiled, since several processes" in capsys.readouterr().err


def test_compiler_failure_is_one_line():
    refused = torch.compile(lambda values: values.sin(), backend=lambda graph, inputs: 1 / 0)
    complaint = r"^model and views could not be compiled: set pretrain\.compile to false .*division"
    with pytest.raises(UserError, match=complaint), loop._explain_failures("pretrain", CPU):
        refused(torch.ones(2))
