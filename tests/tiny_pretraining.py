"""Pretraining of the narrow encoder that takes seconds."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from stages.images.views import ViewRecipe
from stages.learning.barlow_twins import pretrain
from stages.learning.batches import Pictures
from stages.learning.encoders import Encoder
from stages.learning.training import Trained

RECIPE = ViewRecipe(16, crop_min=0.5, flip=True, brightness=0.4, hue=0.1, jitter_probability=0.8)


def pretrain_tiny(
    pictures: Pictures,
    scratch: Path,
    keep: Callable[[int, Encoder, nn.Sequential], None] = lambda epoch, encoder, projector: None,
    **changes: object,
) -> tuple[Encoder, nn.Sequential, Trained]:
    """What `pretrain` returns; `changes` are of the settings below."""
    settings = {
        "encoder": "narrow",
        "stem": "conv3_stride2",
        "projector": [16, 16],
        "views": RECIPE,
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.003,
        "warmup_epochs": 1,
        "weight_decay": 0.01,
        "redundancy_weight": 0.01,
        "compile": False,
        "seed": 0,
    }
    return pretrain(pictures, scratch=scratch, keep=keep, **(settings | changes))
