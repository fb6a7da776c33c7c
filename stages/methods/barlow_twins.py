"""Pretraining without labels by Barlow Twins (Zbontar et al. 2021)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.images.views import ViewRecipe, crop_and_colour, draw_view_parameters, make_views
from stages.losses.barlow_twins import barlow_twins_loss, cross_correlation
from stages.models import distributed
from stages.models.batches import ImagePool, ShuffledBatches, require_batch
from stages.models.device import autocast
from stages.models.encoders import Encoder, build_encoder, build_projector
from stages.models.features import extract_view_features
from stages.pipeline.params import EncoderChoice, Pretrain
from stages.pipeline.seeds import derive_seed
from stages.training.compilation import can_compile, compiled
from stages.training.loop import Plan, TrainingResult, fit
from stages.training.task import Task

_SHOWN_DIMENSIONS = 64


class BarlowTwinsTask(Task):
    """The loss of Barlow Twins on two random views of unlabelled images.

    Attributes:
        encoder: Encoder that is pretrained.
        projector: Projector from features to embeddings.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: nn.Sequential,
        images: ImagePool,
        views: ViewRecipe,
        settings: Pretrain,
        generator: torch.Generator,
    ) -> None:
        order = ShuffledBatches(len(images), settings.batch_size, generator)
        super().__init__(generator, order)
        self._order = order
        self.encoder, self.projector = encoder, projector
        self._images, self._views, self._settings = images, views, settings

        # A function, not a submodule: its weights are those of encoder and projector.
        embed: Callable[[Tensor], Tensor] = nn.Sequential(encoder, projector)
        self._transform: Callable[..., Tensor] = crop_and_colour
        self.compiled = settings.compile and can_compile(images.device, "pretrain.compile")
        if self.compiled:
            embed, self._transform = compiled(embed), compiled(crop_and_colour)
        self._embed: Callable[[Tensor], Tensor] = lambda views: embed(views)

    def loss_terms(self, step: int) -> dict[str, Tensor]:
        """Return invariance and redundancy of the next batch."""
        # This process's shard of the batch, and the one to be read ahead.
        indices, upcoming = next(self._order), self._order.upcoming()
        shard = distributed.local_shard(indices)
        images = self._images.batch(shard, None if upcoming is None else distributed.local_shard(upcoming))

        # Two views of each image; all processes draw the parameters of the whole batch, and use their own.
        count, (height, width) = len(indices), images.shape[1:3]
        parameters = draw_view_parameters(2 * count, height, width, self._views, self.generator, second_views=count)
        mine = torch.cat([distributed.local_shard(half) for half in torch.arange(2 * count).chunk(2)])
        views = make_views(images, parameters[mine], self._views.size, self._transform)

        # Embeddings, and the loss on those of the whole batch.
        with autocast(images.device):
            first, second = self._embed(views).chunk(2)
        first, second = distributed.gather(first), distributed.gather(second)
        return barlow_twins_loss(first, second, self._settings.redundancy_weight)


def pretrain(
    images: ImagePool,
    encoder_choice: EncoderChoice,
    views: ViewRecipe,
    settings: Pretrain,
    seed: int,
    scratch: Path,
    after_epoch: Callable[[int, Encoder, nn.Sequential], None] = lambda epoch, encoder, projector: None,
) -> tuple[Encoder, nn.Sequential, TrainingResult]:
    """Pretrain an encoder on two views of every image.

    If several processes share each batch (see `distributed`), the result is that of one process up to rounding.

    Args:
        images: Unlabelled images, for the device to train on.
        encoder_choice: Architecture; see `build_encoder`.
        views: Augmentation of both views.
        settings: Epochs, batch size, optimizer, projector and weight of the redundancy term.
        seed: Random seed for weights, batch order and augmentation.
        scratch: Directory for checkpoints; see `fit`.
        after_epoch: Function called in the main process with (epoch, encoder, projector) before the first epoch, as
            epoch 0, and after each; again if an epoch is repeated after an interruption.

    Returns:
        The encoder and the projector after the last epoch, and what training leaves behind.

    Raises:
        UserError: The batch is larger than the data or cannot be shared, a resumed training was compiled and this one
            is not or the reverse, or training fails; see `fit`.
    """
    require_batch(settings.batch_size, len(images), "pretrain.batch_size", "unlabelled images in the sample")
    distributed.require_even(settings.batch_size, "pretrain.batch_size")
    torch.manual_seed(derive_seed(seed, "weights"))
    encoder = build_encoder(encoder_choice.name, encoder_choice.stem, encoder_choice.weights).to(images.device)
    encoder = distributed.sync_batch_norm(encoder)
    projector = build_projector(encoder.width, settings.projector).to(images.device)
    projector = distributed.sync_batch_norm(projector)

    task = BarlowTwinsTask(encoder, projector, images, views, settings, torch.Generator().manual_seed(seed))
    steps_per_epoch = len(images) // settings.batch_size
    plan = Plan(
        name="pretrain",
        steps=settings.epochs * steps_per_epoch,
        steps_per_row=steps_per_epoch,
        unit="epoch",
        images_per_step=settings.batch_size,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup_epochs * steps_per_epoch,
        weight_decay=settings.weight_decay,
    )
    result = fit(task, plan, scratch, lambda epoch: after_epoch(epoch, encoder, projector))
    return encoder, projector, replace(result, cost=result.cost | {"compiled": task.compiled})


def checkpoint_epochs(epochs: int, count: int) -> list[int]:
    """Return the epochs after which the encoder is kept: 0 (before training), early ones densely, and the last.

    Spacing is geometric, so that early change is seen. There are at most `count` of 0..epochs, fewer where they would
    coincide.
    """
    if count == 1:
        return [epochs]
    early = {round(epochs ** (i / (count - 2))) for i in range(count - 2)} if count > 2 else set()
    return sorted({0, *early, epochs})


def shown_correlation(
    encoder: Encoder, projector: nn.Sequential, images: Tensor, recipe: ViewRecipe, seed: int
) -> NDArray[np.float32]:
    """Compute the part of the cross-correlation matrix that is small enough to look at.

    Args:
        encoder: Encoder after an epoch; its weights, statistics and mode stay as they are.
        projector: Projector after the same epoch, likewise.
        images: (N, H, W, 3) uint8 images, of which two views are taken.
        recipe: Augmentation of the views.
        seed: Random seed for the augmentation.

    Returns:
        (d, d) cross-correlation of the first d = 64 dimensions of the embedding, or of all if there are fewer.
    """
    network = nn.Sequential(encoder, projector).train(encoder.training)
    first, second = extract_view_features(network, images, recipe, 2, seed)[:, :, :_SHOWN_DIMENSIONS]
    correlation: NDArray[np.float32] = cross_correlation(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    return correlation
