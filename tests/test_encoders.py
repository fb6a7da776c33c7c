"""Encoders and projectors, and the choices that the parameters offer."""

import pytest
import torch
import torchvision
from torch import nn

from stages.models.encoders import build_encoder
from stages.pipeline.params import EncoderChoice

NAMES, STEMS = (EncoderChoice.model_fields[field].annotation.__args__ for field in ("name", "stem"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stem", STEMS)
def test_encoders_accept_small_images(name, stem):
    encoder = build_encoder(name, stem).eval()
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.width)


def test_resnet18_equals_torchvision():
    torch.manual_seed(0)
    ours = build_encoder("resnet18", "conv7_pool").eval()
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict({key.removeprefix("body."): value for key, value in ours.state_dict().items()})
    views = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(views), theirs.eval()((views - 0.5) * 4))
