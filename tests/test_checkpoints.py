"""Weights on disk: safetensors that rebuild their model."""

import pytest
import torch

from stages.models.checkpoints import (
    epoch_checkpoints,
    load_classifier,
    load_encoder,
    load_projector,
    save_classifier,
    save_encoder,
    save_projector,
)
from stages.models.encoders import Classifier, build_encoder, build_projector
from stages.pipeline.errors import UserError


def test_checkpoints_rebuild_their_models(tmp_path):
    encoder = build_encoder("narrow", "conv3")
    model, projector = Classifier(encoder, 3), build_projector(encoder.width, [16, 8])
    save_encoder(encoder, tmp_path / "0.safetensors")
    save_encoder(encoder, tmp_path / "12.safetensors")
    save_projector(projector, encoder.width, [16, 8], tmp_path / "projector.safetensors")
    save_classifier(model, ("a", "b", "<c>"), 96, 32, tmp_path / "model.safetensors")
    assert [epoch for epoch, _ in epoch_checkpoints(tmp_path)] == [0, 12]
    found, *about = load_classifier(tmp_path / "model.safetensors")
    assert about == [("a", "b", "<c>"), 96, 32]
    for ours, theirs in (
        (encoder, load_encoder(tmp_path / "12.safetensors")),
        (projector, load_projector(tmp_path / "projector.safetensors")),
        (model, found),
    ):
        assert not theirs.training
        for one, two in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(one, two)


def test_checkpoints_damaged_or_missing_are_named(tmp_path):
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
