"""Weights that an encoder starts from: whose they may be, what is refused, and that nothing in a file is run."""

import os
import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from stages.models.checkpoints import save_classifier, save_encoder
from stages.models.encoders import build_classifier, build_encoder
from stages.pipeline.errors import UserError
from stages.pipeline.params import EncoderChoice, _require_own_weights
from stages.scan import weights_checksum

VIEWS = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet():
    """A ResNet-18 of torchvision with running statistics of its own."""
    torch.manual_seed(1)
    model = torchvision.models.resnet18()
    for _ in range(20):
        model(torch.randn(8, 3, 64, 64))
    return model.eval()


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_encoder_starts_from_another_run(kind, tmp_path):
    trained = build_classifier("narrow", "conv3_stride2", 3, 5).eval()
    path = str(tmp_path / "some.safetensors")
    if kind == "encoder":
        save_encoder(trained.encoder, path)
    else:
        save_classifier(trained, ("a", "b", "c"), 64, 64, path)
    torch.manual_seed(0)
    found = build_encoder("narrow", "conv3_stride2", path).eval()
    with torch.no_grad():
        assert torch.equal(found(VIEWS), trained.encoder(VIEWS))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_encoder_starts_from_torchvision_resnet(resnet, ending, tmp_path):
    path = tmp_path / f"resnet{ending}"
    torch.save(resnet.state_dict(), path) if ending == ".pth" else save_file(resnet.state_dict(), path)
    encoder = build_encoder("resnet18", "conv7_pool", str(path)).eval()
    normalized = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(VIEWS)
    with torch.no_grad():
        # Away from the borders, whose padding has another colour, the first layers give the same.
        ours = encoder.body.bn1(encoder.body.conv1((VIEWS - 0.5) * 4))[..., 2:-2, 2:-2]
        theirs = resnet.bn1(resnet.conv1(normalized))[..., 2:-2, 2:-2]
        assert torch.allclose(ours, theirs, atol=1e-4)
        resnet.fc = torch.nn.Identity()
        assert torch.nn.functional.cosine_similarity(encoder(VIEWS), resnet(normalized)).min() > 0.99


def test_encoder_takes_old_files_without_numbers_of_batches(resnet, tmp_path):
    state = {key: tensor for key, tensor in resnet.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    torch.save(resnet.state_dict(), tmp_path / "new.pth")
    old, new = (build_encoder("resnet18", "conv7_pool", str(tmp_path / name)).eval() for name in ("old.pth", "new.pth"))
    with torch.no_grad():
        assert torch.equal(old(VIEWS), new(VIEWS))


def test_damaged_files_of_weights_are_an_error_in_one_line(resnet, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "damaged.pth"
    torch.save(
        {"conv1.weight": resnet.conv1.weight[:2, :1, :2, :2].clone()}, path, _use_new_zipfile_serialization=False
    )
    content = path.read_bytes()
    for _ in range(500):
        damaged = bytearray(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"^encoder\.weights: "):
            build_encoder("narrow", "conv3", str(path))


def test_random_weights_are_drawn_as_before_if_there_are_none():
    torch.manual_seed(3)
    first = build_encoder("narrow", "conv3")
    torch.manual_seed(3)
    second = build_encoder("narrow", "conv3", None)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_weights_that_do_not_fit_are_refused_and_nothing_is_run(resnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(resnet.state_dict(), "resnet.pth")
    torch.save({"epoch": 3, "state": resnet.state_dict()}, "nested.pth")
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(_Bomb()))
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    for choice, complaint in {
        ("resnet18", "conv3", "resnet.pth"): r"has conv1.weight of shape \(64, 3, 7, 7\), but .*3, 3\) is needed",
        ("resnet34", "conv7_pool", "resnet.pth"): "resnet34 and encoder.stem: it has no layer1",
        ("resnet18", "conv7_pool", "nested.pth"): "is no dictionary of tensors",
        ("resnet18", "conv7_pool", "bomb.pth"): "cannot be read as weights",
        ("resnet18", "conv7_pool", "text.safetensors"): "cannot be read as weights",
        ("resnet18", "conv7_pool", "empty.pth"): "cannot be read as weights",
        ("resnet18", "conv7_pool", "none.pth"): r"none\.pth is not there",
    }.items():
        with pytest.raises(UserError, match=complaint):
            build_encoder(*choice)
    assert not (tmp_path / "exploded").exists()


def test_imagenet_weights_that_cannot_be_downloaded_are_an_error_in_one_line(monkeypatch):
    def refused(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", refused)
    with pytest.raises(UserError, match=r"cannot be downloaded \(no route to host\): name a file"):
        build_encoder("resnet18", "conv7_pool", "imagenet")


def test_weights_that_the_pipeline_replaces_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {pretrain: {outs: [models/pretrain: {persist: true}]}}")
    for weights, refused in (("models/pretrain/3.safetensors", True), ("models/mine.pth", False), (None, False)):
        chosen = EncoderChoice(name="narrow", stem="conv3", weights=weights)
        with pytest.raises(UserError, match="copy the file elsewhere first") if refused else nullcontext():
            _require_own_weights(chosen, "dvc.yaml")
    with pytest.raises(ValueError, match="no imagenet weights of the encoder narrow"):
        EncoderChoice(name="narrow", stem="conv3", weights="imagenet")


def test_weights_checksum_follows_content(tmp_path):
    path = tmp_path / "some.pth"
    chosen = EncoderChoice(name="resnet18", stem="conv7_pool", weights=str(path))
    with pytest.raises(UserError, match=r"some\.pth is not there"):
        weights_checksum(chosen)
    path.write_bytes(b"one")
    first = weights_checksum(chosen)
    path.write_bytes(b"two")
    assert weights_checksum(chosen) != first
    for weights in (None, "imagenet"):
        assert weights_checksum(chosen.model_copy(update={"weights": weights})) is None
