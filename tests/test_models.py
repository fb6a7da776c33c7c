"""Encoders, checkpoints, the training loop and layouts."""

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from sklearn.manifold import trustworthiness
from torch import nn

from stages.files import UserError
from stages.images.views import ViewRecipe
from stages.learning.barlow_twins import shown_correlation
from stages.learning.checkpoints import (
    epoch_checkpoints,
    load_classifier,
    load_encoder,
    load_projector,
    save_classifier,
    save_encoder,
    save_projector,
)
from stages.learning.encoders import ENCODERS, STEMS, Classifier, build_encoder, build_projector
from stages.learning.layouts import aligned_layouts
from stages.learning.representation import view_outputs
from stages.learning.training import optimise, peak_memory
from stages.params import EncoderChoice


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("stem", STEMS)
def test_encoders_take_small_images(name, stem):
    encoder = build_encoder(name, stem).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.width)


def test_choices_are_those_of_the_parameters():
    fields = EncoderChoice.model_fields
    assert fields["name"].annotation.__args__ == ENCODERS
    assert fields["stem"].annotation.__args__ == STEMS


def test_resnet_is_torchvisions():
    torch.manual_seed(0)
    ours = build_encoder("resnet18", "conv7_pool").eval()
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict({key.removeprefix("body."): value for key, value in ours.state_dict().items()})
    views = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(views), theirs.eval()((views - 0.5) * 4))


def test_checkpoints_carry_what_made_them(tmp_path):
    encoder = build_encoder("narrow", "conv3")
    model, projector = Classifier(encoder, 3), build_projector(encoder.width, [16, 8])
    save_encoder(encoder, tmp_path / "0.safetensors")
    save_encoder(encoder, tmp_path / "12.safetensors")
    save_projector(projector, encoder.width, [16, 8], tmp_path / "projector.safetensors")
    save_classifier(model, ("a", "b", "<c>"), tmp_path / "model.safetensors")
    assert [epoch for epoch, _ in epoch_checkpoints(tmp_path)] == [0, 12]
    found, classes = load_classifier(tmp_path / "model.safetensors")
    assert classes == ("a", "b", "<c>")
    for ours, theirs in (
        (encoder, load_encoder(tmp_path / "12.safetensors")),
        (projector, load_projector(tmp_path / "projector.safetensors")),
        (model, found),
    ):
        assert not theirs.training
        for one, two in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(one, two)


def test_a_damaged_checkpoint_is_named(tmp_path):
    save_encoder(build_encoder("narrow", "conv3"), tmp_path / "1.safetensors")
    whole = (tmp_path / "1.safetensors").read_bytes()
    for damaged in (whole[:-5], whole[:100], b"", b"\xff" * 50):
        (tmp_path / "1.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match=r"1\.safetensors is damaged"):
            load_encoder(tmp_path / "1.safetensors")
    with pytest.raises(UserError, match="is missing"):
        load_encoder(tmp_path / "2.safetensors")
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(UserError, match="holds no checkpoint"):
        epoch_checkpoints(tmp_path)


def _fit(losses, model, scratch, **more):
    settings = {
        "generator": torch.Generator(),
        "memory": [],
        "scratch": scratch,
        "title": "t",
        "steps": 20,
        "steps_per_row": 5,
        "row_name": "epoch",
        "images_per_step": 1,
        "learning_rate": lambda step: 0.1,
        "weight_decay": 0.0,
    }
    return optimise(losses, [model], **(settings | more))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back that the next step needs")
def test_freed_memory_is_there_for_the_next_step():
    code = """
import resource, torch
from stages.learning.training import keep_freed_memory

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


def test_the_peak_of_memory_is_that_of_the_process_alone():
    code = "import torch; from stages.learning.training import peak_memory; print(peak_memory(torch.device('cpu')))"
    command = [sys.executable, "-c", code]
    alone = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ours = torch.ones(alone // 4)  # 4 bytes each: this process now holds as much more
    beside = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak_memory(torch.device("cpu")) > ours.nbytes
    assert beside == pytest.approx(alone, rel=0.1)


def test_the_loop_is_adamw(tmp_path):
    torch.manual_seed(0)
    ours = nn.Linear(3, 1)
    theirs = nn.Linear(3, 1)
    theirs.load_state_dict(ours.state_dict())
    x, y = torch.randn(8, 3), torch.randn(8, 1)
    trained = _fit(lambda step: {"error": (ours(x) - y).square().mean()}, ours, tmp_path, weight_decay=0.3)
    optimizer = torch.optim.AdamW(
        [{"params": [theirs.weight], "weight_decay": 0.3}, {"params": [theirs.bias], "weight_decay": 0.0}], lr=0.1
    )
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (theirs(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)
    assert [row["epoch"] for row in trained.history] == [1, 2, 3, 4]
    assert [row["loss"] for row in trained.history] == pytest.approx(
        [np.mean(losses[i : i + 5]) for i in range(0, 20, 5)], rel=1e-4
    )


def test_a_loss_that_is_not_finite_stops_at_once_with_step_and_term_and_keeps_what_was_good(tmp_path):
    model = nn.Linear(1, 1)
    steps = iter(range(99))
    good = []
    complaint = (
        r"rate of 0\.1.*no longer finite at step 7 \(term bad\).*last_good\.safetensors holds the weights after 5"
    )
    with pytest.raises(UserError, match=complaint):
        _fit(
            lambda step: {
                "good": model.weight.sum() * 0,
                "bad": model.weight.sum() * (float("nan") if next(steps) == 7 else 0),
            },
            model,
            tmp_path,
            after_row=lambda row: good.append(model.weight.detach().clone()),
        )
    assert next(steps) == 8
    assert torch.equal(load_file(tmp_path / "t" / "last_good.safetensors")["0.weight"], good[1])


def test_weights_that_are_not_finite_after_the_last_step_are_found(tmp_path):
    model = nn.Linear(1, 1)
    steps = iter(range(1, 99))

    def break_weights():
        if next(steps) == 20:
            nn.init.constant_(model.weight, float("inf"))

    with pytest.raises(UserError, match=r"weights are no longer finite after step 20.*after 15 steps"):
        _fit(lambda step: {"error": model.weight.square().sum()}, model, tmp_path, after_step=break_weights)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_step_without_room_says_what_to_lower(error, tmp_path):
    def losses(step):
        raise error

    with pytest.raises(UserError, match=r"does not fit into the memory of cpu.*lower t\.batch_size first"):
        _fit(losses, nn.Linear(1, 1), tmp_path)


def test_layouts_are_aligned_and_faithful():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16)) * 6
    early = (centres[np.arange(120) % 4] + rng.normal(size=(120, 16))).astype(np.float32)
    late = early + 0.3 * rng.normal(size=early.shape).astype(np.float32)
    first, second = aligned_layouts([early, late], perplexity=10, iterations=300, seed=0)
    apart = aligned_layouts([late], perplexity=10, iterations=300, seed=0)[0]
    move = lambda a, b: np.linalg.norm(a - b, axis=1).mean()  # noqa: E731
    assert move(first, second) < 0.5 * move(first, apart) or move(first, second) < 0.3
    assert trustworthiness(late, second, metric="cosine") > 0.85
    assert np.allclose(second.mean(0), 0, atol=1e-3)
    again = aligned_layouts([early, late], perplexity=10, iterations=300, seed=0)
    assert np.array_equal(again[1], second)


def test_the_shown_correlation_is_the_corner_of_the_whole_and_moves_nothing():
    torch.manual_seed(0)
    encoder, projector = build_encoder("narrow", "conv3_stride2"), build_projector(256, [32, 80])
    images = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8)
    recipe = ViewRecipe(16, crop_min=0.5, flip=True)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    shown = shown_correlation(encoder, projector, images, recipe, seed=3)
    twins = view_outputs(nn.Sequential(encoder, projector), images, recipe, 2, 3).astype(np.float64)
    first, second = (twins - twins.mean(1, keepdims=True)) / np.sqrt(twins.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(shown, (first.T @ second / 40)[:64, :64], atol=1e-4)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
