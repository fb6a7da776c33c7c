"""Pretraining by Barlow Twins: which epochs are kept, and the cross-correlation that is shown."""

import numpy as np
import pytest
import torch
from torch import nn

from stages.images.views import ViewRecipe
from stages.methods.barlow_twins import checkpoint_epochs, shown_correlation
from stages.models.encoders import build_encoder, build_projector
from stages.models.features import extract_view_features


@pytest.mark.parametrize(("epochs", "count"), [(1, 8), (2, 8), (5, 1), (24, 8), (1000, 12), (3, 2)])
def test_checkpoint_epochs_include_first_and_last(epochs, count):
    kept = checkpoint_epochs(epochs, count)
    assert kept[-1] == epochs
    assert len(kept) <= count
    assert kept == sorted(set(kept))
    assert count == 1 or kept[0] == 0


def test_shown_correlation_equals_corner_of_whole():
    torch.manual_seed(0)
    encoder, projector = build_encoder("narrow", "conv3_stride2"), build_projector(256, [32, 80])
    images = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8)
    recipe = ViewRecipe(16, crop_min=0.5, flip=True)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    shown = shown_correlation(encoder, projector, images, recipe, seed=3)
    twins = extract_view_features(nn.Sequential(encoder, projector), images, recipe, 2, 3).astype(np.float64)
    first, second = (twins - twins.mean(1, keepdims=True)) / np.sqrt(twins.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(shown, (first.T @ second / 40)[:64, :64], atol=1e-4)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
