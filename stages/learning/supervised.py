"""Training on the visible labels alone: from scratch as the baseline, or from a pretrained classifier to fine-tune it."""

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.images.views import ViewRecipe, draw_views
from stages.learning.batches import ShuffledBatches, require_batch
from stages.learning.encoders import Classifier, build_encoder
from stages.learning.schedules import warmup_cosine
from stages.learning.training import Trained, mixed_precision, optimise


def new_classifier(encoder: str, stem: str, classes: int, seed: int) -> Classifier:
    """A classifier with random weights, the same for the same `seed`; see `build_encoder`."""
    torch.manual_seed(seed)
    return Classifier(build_encoder(encoder, stem), classes)


def train_supervised(
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    section: str,
    views: ViewRecipe,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    scratch: Path,
) -> tuple[Classifier, Trained]:
    """Train a classifier by cross-entropy on views of labelled images.

    Args:
        model: to start from; it is not changed.
        images: (N, H, W, 3) uint8 on the device to train on.
        labels: (N,) class numbers on the same device.
        section: of the parameters, `supervised` or `fine_tune`; names the training in messages.
        views: how views are made.
        steps, batch_size, learning_rate, weight_decay: of the optimizer.
        seed: of order and views.
        scratch: see `optimise`.

    Raises:
        UserError: a batch is larger than the data, or the loss is not finite.
    """
    require_batch(batch_size, len(images), f"{section}.batch_size", "visible labels")
    device = images.device
    model = deepcopy(model).to(device).train()
    generator = torch.Generator().manual_seed(seed)
    batches = ShuffledBatches(len(images), batch_size, generator)
    precision = mixed_precision(device)

    def losses(step: int) -> dict[str, Tensor]:
        batch = next(batches).to(device)
        with precision:
            logits = model(draw_views(images[batch], views, generator))
        return {"cross_entropy": F.cross_entropy(logits.float(), labels[batch])}

    trained = optimise(
        losses,
        [model],
        generator=generator,
        memory=[batches],
        scratch=scratch,
        title=section,
        steps=steps,
        steps_per_row=max(1, steps // 50),
        row_name="step",
        images_per_step=batch_size,
        learning_rate=lambda step: warmup_cosine(step, steps, steps // 20, learning_rate),
        weight_decay=weight_decay,
    )
    return model, trained
