"""Pretraining without labels: Barlow Twins (Zbontar et al. 2021)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.images.views import ViewRecipe, crop_and_colour, draw_view_parameters, make_views
from stages.learning import processes
from stages.learning.batches import Pictures, ShuffledBatches, require_batch
from stages.learning.encoders import Encoder, build_encoder, build_projector
from stages.learning.losses import barlow_twins_terms, cross_correlation
from stages.learning.representation import view_outputs
from stages.learning.schedules import warmup_cosine
from stages.learning.training import Trained, WayOfComputing, can_compile, compiled, mixed_precision, optimise

_SHOWN_DIMENSIONS = 64


def pretrain(
    images: Pictures,
    *,
    encoder: str,
    stem: str,
    projector: list[int],
    views: ViewRecipe,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    warmup_epochs: int,
    weight_decay: float,
    redundancy_weight: float,
    compile: bool,
    seed: int,
    scratch: Path,
    keep: Callable[[int, Encoder, nn.Sequential], None],
) -> tuple[Encoder, nn.Sequential, Trained]:
    """Pretrain an encoder on two views of every image.

    Several processes share each batch (see `processes`) and come, but for rounding, to what one would.

    Args:
        images: N of them, with the device to train on.
        encoder, stem: see `build_encoder`.
        projector: see `build_projector`.
        views: how both views are made.
        epochs, batch_size, learning_rate, warmup_epochs, weight_decay: of the optimizer.
        redundancy_weight: lambda of the paper's equation 1.
        compile: whether model and views are fused first, where they can be (see `can_compile`).
        seed: of weights, order and views.
        scratch: see `optimise`.
        keep: called with (epoch, encoder, projector) before the first epoch, as epoch 0, and after each; again where a run goes on.

    Returns:
        the encoder and the projector after the last epoch, and what their training leaves behind.

    Raises:
        UserError: a batch is larger than the data or cannot be shared, a training that goes on was not compiled and would be, or the
            reverse, or see `optimise`.
    """
    require_batch(batch_size, len(images), "pretrain.batch_size", "unlabelled images in the sample")
    processes.require_even(batch_size, "pretrain.batch_size")
    torch.manual_seed(seed)
    device = images.device
    model = processes.with_whole_batch_statistics(build_encoder(encoder, stem).to(device))
    head = processes.with_whole_batch_statistics(build_projector(model.width, projector).to(device))
    generator = torch.Generator().manual_seed(seed)
    batches = ShuffledBatches(len(images), batch_size, generator)
    steps_per_epoch = len(images) // batch_size
    precision = mixed_precision(device)
    embed, change_all = nn.Sequential(model, head), crop_and_colour
    fused = compile and can_compile(device, "pretrain.compile")
    if fused:
        embed, change_all = compiled(embed), compiled(change_all)

    def losses(step: int) -> dict[str, Tensor]:
        chosen, ahead = next(batches), batches.ahead()
        batch = images.batch(processes.share(chosen), None if ahead is None else processes.share(ahead))
        parameters = draw_view_parameters(2 * batch_size, *batch.shape[1:3], views, generator)
        mine = torch.cat([processes.share(half) for half in torch.arange(2 * batch_size).chunk(2)])
        twins = make_views(batch, parameters[mine], views.size, change_all)
        with precision:
            shares = embed(twins).chunk(2)
        first, second = map(processes.gather, shares)
        return weighted_barlow_twins(first, second, redundancy_weight)

    trained = optimise(
        losses,
        [model, head],
        generator=generator,
        memory=[batches, WayOfComputing(fused)],
        scratch=scratch,
        title="pretrain",
        steps=epochs * steps_per_epoch,
        steps_per_row=steps_per_epoch,
        row_name="epoch",
        images_per_step=batch_size,
        learning_rate=lambda step: warmup_cosine(
            step, epochs * steps_per_epoch, warmup_epochs * steps_per_epoch, learning_rate
        ),
        weight_decay=weight_decay,
        after_row=lambda epoch: keep(epoch, model, head),
    )
    return model, head, replace(trained, cost=trained.cost | {"compiled": fused})


def weighted_barlow_twins(first: Tensor, second: Tensor, redundancy_weight: float) -> dict[str, Tensor]:
    """The two terms of Barlow Twins per dimension of the embedding: (N, D) embeddings to named scalars.

    Dividing by D makes the loss, and with it a fit weight beside other losses, comparable between projectors.
    """
    invariance, redundancy = barlow_twins_terms(first, second)
    return {
        "invariance": invariance / first.shape[1],
        "redundancy": redundancy_weight * redundancy / first.shape[1],
    }


def shown_correlation(
    encoder: Encoder, projector: nn.Sequential, images: Tensor, recipe: ViewRecipe, seed: int
) -> NDArray[np.float32]:
    """What Barlow Twins drives towards the identity, small enough to look at.

    Args:
        encoder, projector: as they are after an epoch; their weights, statistics and mode stay as they were.
        images: (N, H, W, 3) uint8, of which two views are taken.
        recipe: of the views.
        seed: of the views.

    Returns:
        (d, d) cross-correlation of the first d = 64 dimensions of the embedding, or of all if there are fewer.
    """
    whole = nn.Sequential(encoder, projector).train(encoder.training)
    twins = view_outputs(whole, images, recipe, 2, seed)
    return cross_correlation(*torch.from_numpy(twins[:, :, :_SHOWN_DIMENSIONS])).numpy()
