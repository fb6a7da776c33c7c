"""A classifier that learns from labelled and unlabelled images at once.

loss = cross_entropy_weight * cross-entropy (strong views of labelled images)
     + barlow_weight * Barlow Twins (two strong views of unlabelled images, through the projector of pretraining)
     + consistency_weight * ramp * consistency (what is sure on a weak view teaches both strong views)

It starts from the linear probe, encoder and head, since a random head would undo the features while it learns (Kumar et al.
2022, Fine-Tuning can Distort Pretrained Features); or from random weights. The ramp grows from 0 to 1 over the first half of
the steps: what knows little yet would teach its own errors. What is "sure" adapts to the model as in FreeMatch (Wang et al.
2023, equations 5 to 8). The classifier that is kept, and that guesses on weak views, is a moving average of the trained
weights (Tarvainen and Valpola 2017, Mean Teacher).
"""

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.images.views import ViewRecipe, draw_views
from stages.learning.barlow_twins import weighted_barlow_twins
from stages.learning.batches import Pictures, ShuffledBatches, require_batch
from stages.learning.encoders import Classifier, build_projector
from stages.learning.losses import consistency
from stages.learning.schedules import gaussian_ramp, warmup_cosine
from stages.learning.supervised import new_classifier
from stages.learning.training import Trained, mixed_precision, optimise


class AdaptiveThreshold(nn.Module):
    """How sure a guess must be to count, per class (FreeMatch: Wang et al. 2023, equations 5 to 8).

    Attributes:
        confidence: moving average of the largest probability; starts at 1 / C.
        share: (C,) moving average of the probabilities, the share of guesses per class; starts at 1 / C.
    """

    def __init__(self, classes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("confidence", torch.tensor(1 / classes))
        self.register_buffer("share", torch.full((classes,), 1 / classes))

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Take in (N, C) probabilities; return (N,) guesses and (N,) weights, 1 where the guess is sure enough."""
        confidence, guess = probabilities.max(1)
        self.confidence = self.momentum * self.confidence + (1 - self.momentum) * confidence.mean()
        self.share = self.momentum * self.share + (1 - self.momentum) * probabilities.mean(0)
        threshold = self.confidence * self.share / self.share.max()
        return guess, (confidence >= threshold[guess]).float()


def random_start(model: Classifier, projector: nn.Sequential, seed: int) -> tuple[Classifier, nn.Sequential]:
    """A classifier and a projector like these, with random weights."""
    fresh = new_classifier(model.encoder.name, model.encoder.stem, model.head.out_features, seed)
    layers = [layer.out_features for layer in projector if isinstance(layer, nn.Linear)]
    return fresh, build_projector(model.encoder.width, layers)


def train_semi_supervised(
    model: Classifier,
    projector: nn.Sequential,
    labeled: Tensor,
    labels: Tensor,
    unlabeled: Pictures,
    *,
    init: str,
    strong: ViewRecipe,
    weak: ViewRecipe,
    steps: int,
    batch_size: int,
    unlabeled_batch_size: int,
    learning_rate: float,
    weight_decay: float,
    cross_entropy_weight: float,
    barlow_weight: float,
    redundancy_weight: float,
    consistency_weight: float,
    average_decay: float,
    seed: int,
    scratch: Path,
) -> tuple[Classifier, Trained]:
    """Train on all images together.

    Args:
        model, projector: the linear probe, and the projector that pretraining ended with; neither is changed.
        labeled: (N, H, W, 3) uint8 on the device to train on.
        labels: (N,) class numbers.
        unlabeled: M of them, for the same device.
        init: `pretrained` starts from both, `random` from random weights in their place.
        strong: views that the model trains on: one of each labelled, two of each unlabelled image.
        weak: views of unlabelled images on which classes are guessed.
        steps, learning_rate, weight_decay: of the optimizer.
        batch_size, unlabeled_batch_size: labelled and unlabelled images in a step.
        cross_entropy_weight, barlow_weight, redundancy_weight, consistency_weight: of the terms, see above; 0 switches one off.
        average_decay: share of the moving average that a step keeps.
        seed: of order and views, and of random weights.
        scratch: see `optimise`.

    Returns:
        the moving average of the classifier, and the history.

    Raises:
        UserError: a batch is larger than the data, or the loss is not finite.
    """
    require_batch(batch_size, len(labeled), "semi_supervised.batch_size", "visible labels")
    require_batch(unlabeled_batch_size, len(unlabeled), "semi_supervised.unlabeled_batch_size", "unlabelled images")
    device, classes = labeled.device, model.head.out_features
    model, projector = random_start(model, projector, seed) if init == "random" else deepcopy((model, projector))
    model, projector = model.to(device).train(), projector.to(device).train()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(average_decay), use_buffers=True)
    average.eval()
    generator = torch.Generator().manual_seed(seed)
    labeled_batches = ShuffledBatches(len(labeled), batch_size, generator)
    unlabeled_batches = ShuffledBatches(len(unlabeled), unlabeled_batch_size, generator)
    threshold = AdaptiveThreshold(classes, average_decay).to(device)
    precision = mixed_precision(device)

    def losses(step: int) -> dict[str, Tensor]:
        ramp = gaussian_ramp(step, steps // 2)
        chosen = next(labeled_batches).to(device)
        others = unlabeled.batch(next(unlabeled_batches), unlabeled_batches.ahead())
        with torch.no_grad(), precision:
            guessed = average(draw_views(others, weak, generator)).float().softmax(1)
        guess, sure = threshold(guessed)
        views = draw_views(torch.cat([labeled[chosen], others, others]), strong, generator)
        with precision:
            features = model.encoder(views)
            logits = model.head(features).float()
            first, second = projector(features[batch_size:]).float().chunk(2)
        terms = weighted_barlow_twins(first, second, redundancy_weight)
        return {
            "cross_entropy": cross_entropy_weight * F.cross_entropy(logits[:batch_size], labels[chosen]),
            "invariance": barlow_weight * terms["invariance"],
            "redundancy": barlow_weight * terms["redundancy"],
            "consistency": consistency_weight
            * ramp
            * consistency(logits[batch_size:], guess.repeat(2), sure.repeat(2)),
        }

    trained = optimise(
        losses,
        [model, projector],
        generator=generator,
        memory=[labeled_batches, unlabeled_batches, threshold, average],
        scratch=scratch,
        title="semi_supervised",
        steps=steps,
        steps_per_row=max(1, steps // 50),
        row_name="step",
        images_per_step=batch_size + unlabeled_batch_size,
        learning_rate=lambda step: warmup_cosine(step, steps, steps // 20, learning_rate),
        weight_decay=weight_decay,
        after_step=lambda: average.update_parameters(model),
    )
    return average.module, trained
