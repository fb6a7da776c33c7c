"""Pretraining of the narrow encoder that takes seconds."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from stages.images.views import ViewRecipe
from stages.methods.barlow_twins import pretrain
from stages.models.batches import ImagePool
from stages.models.encoders import Encoder
from stages.pipeline.params import EncoderChoice, Pretrain
from stages.training.loop import TrainingResult

RECIPE = ViewRecipe(16, crop_min=0.5, flip=True, brightness=0.4, hue=0.1, jitter_probability=0.8)
CHOICE = EncoderChoice(name="narrow", stem="conv3_stride2")
SETTINGS = Pretrain(
    epochs=3,
    batch_size=8,
    learning_rate=0.003,
    warmup_epochs=1,
    weight_decay=0.01,
    projector=[16, 16],
    redundancy_weight=0.01,
    compile=False,
    checkpoints=3,
)


def pretrain_tiny(
    pool: ImagePool,
    scratch: Path,
    after_epoch: Callable[[int, Encoder, nn.Sequential], None] = lambda epoch, encoder, projector: None,
    views: ViewRecipe = RECIPE,
    **changes: object,
) -> tuple[Encoder, nn.Sequential, TrainingResult]:
    """Return what `pretrain` does; `changes` replace some of `SETTINGS`."""
    settings = SETTINGS.model_copy(update=changes)
    return pretrain(pool, CHOICE, views, settings, 0, scratch, after_epoch)
