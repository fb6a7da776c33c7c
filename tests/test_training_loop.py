"""The training loop: AdamW step by step, and what stops it."""

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stages.models.device import peak_memory
from stages.pipeline.errors import UserError
from stages.training.loop import Plan, fit
from stages.training.task import Task


class _Problem(Task):
    """Minimises what a function returns."""

    def __init__(self, model, loss_terms, after_step=lambda: None):
        super().__init__(torch.Generator())
        self.model = model
        self._loss_terms, self._after_step = loss_terms, after_step

    def loss_terms(self, step):
        return self._loss_terms()

    def after_step(self):
        self._after_step()


def _plan(weight_decay=0.0):
    return Plan("t", 20, 5, "epoch", images_per_step=1, learning_rate=0.1, warmup=3, weight_decay=weight_decay)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back that the next step needs")
def test_keep_freed_memory_avoids_page_faults():
    code = """
import resource, torch
from stages.models.device import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(2):
        blocks = [torch.ones(2 << 20) for _ in range(20)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
without = pages()
keep_freed_memory()
pages()
print(without, pages())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    without, kept = map(int, run.stdout.split())
    if without < 1000:
        pytest.skip("this system does not count page faults")
    assert kept < max(100, without / 100)


def test_peak_memory_is_of_this_process_alone():
    code = "import torch; from stages.models.device import peak_memory; print(peak_memory(torch.device('cpu')))"
    command = [sys.executable, "-c", code]
    alone = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    held = torch.ones(alone // 4)  # 4 bytes each: this process now holds as much more
    beside = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak_memory(torch.device("cpu")) > held.nbytes
    assert beside == pytest.approx(alone, rel=0.1)


def test_fit_equals_adamw(tmp_path):
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 1), nn.Linear(3, 1)
    theirs.load_state_dict(ours.state_dict())
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    plan = _plan(weight_decay=0.3)
    result = fit(_Problem(ours, lambda: {"error": (ours(x) - y).square().mean()}), plan, tmp_path)
    optimizer = torch.optim.AdamW(
        [{"params": [theirs.weight], "weight_decay": 0.3}, {"params": [theirs.bias], "weight_decay": 0.0}], lr=0.1
    )
    losses = []
    for step in range(20):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate_at(step)
        optimizer.zero_grad()
        loss = (theirs(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert [row["learning_rate"] for row in result.history] == [plan.learning_rate_at(step) for step in (4, 9, 14, 19)]
    assert [row["loss"] for row in result.history] == pytest.approx(
        [np.mean(losses[i : i + 5]) for i in range(0, 20, 5)], rel=1e-4
    )


def test_fit_stops_at_nonfinite_loss_and_keeps_last_good_weights(tmp_path):
    model = nn.Linear(1, 1)
    steps = iter(range(99))
    good = []

    def loss_terms():
        factor = float("nan") if next(steps) == 7 else 0
        return {"good": model.weight.sum() * 0, "bad": model.weight.sum() * factor}

    complaint = (
        rf"rate of {_plan().learning_rate_at(7):.2g}: the loss is no longer finite at step 8 \(term bad\)"
        r".*last_good\.safetensors holds the weights after 5"
    )
    with pytest.raises(UserError, match=complaint):
        fit(
            _Problem(model, loss_terms),
            _plan(),
            tmp_path,
            after_row=lambda rows: good.append(model.weight.detach().clone()),
        )
    assert next(steps) == 8
    assert torch.equal(load_file(tmp_path / "t" / "last_good.safetensors")["model.weight"], good[1])


def test_fit_finds_nonfinite_weights_after_last_step(tmp_path):
    model = nn.Linear(1, 1)
    steps = iter(range(1, 99))

    def break_weights():
        if next(steps) == 20:
            nn.init.constant_(model.weight, float("inf"))

    with pytest.raises(UserError, match=r"weights are no longer finite after step 20.*after 15 steps"):
        fit(_Problem(model, lambda: {"error": model.weight.square().sum()}, break_weights), _plan(), tmp_path)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_fit_names_parameter_to_lower_when_out_of_memory(error, tmp_path):
    def loss_terms():
        raise error

    with pytest.raises(UserError, match=r"does not fit into the memory of cpu.*lower t\.batch_size first"):
        fit(_Problem(nn.Linear(1, 1), loss_terms), _plan(), tmp_path)
