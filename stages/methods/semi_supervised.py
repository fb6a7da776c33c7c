"""A classifier that is trained on labelled and unlabelled images at once.

loss = cross_entropy_weight * cross-entropy (strong views of labelled images)
     + barlow_weight * Barlow Twins (two strong views of unlabelled images, through the projector of pretraining)
     + consistency_weight * ramp * consistency (pseudo-labels of a weak view are the target of both strong views)

It is initialised from the linear probe, encoder and head, since a random head would distort the features while it is
trained (Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features); or from random weights. The ramp grows from
0 to 1 over the first half of the steps, since early pseudo-labels are unreliable. Pseudo-labels are selected as in
FreeMatch. The classifier that is kept, and that predicts pseudo-labels, is an exponential moving average of the
trained weights (Tarvainen and Valpola 2017, Mean Teacher).
"""

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.images.views import draw_views, view_recipe
from stages.losses.barlow_twins import barlow_twins_loss
from stages.losses.pseudo_labels import AdaptiveThreshold, consistency_loss
from stages.models.batches import ImagePool, LabeledImages, ShuffledBatches, require_batch
from stages.models.device import autocast
from stages.models.encoders import Classifier, build_classifier, build_projector
from stages.pipeline.params import SemiSupervised, Views
from stages.pipeline.seeds import derive_seed
from stages.training.loop import Plan, TrainingResult, fit
from stages.training.schedules import gaussian_ramp
from stages.training.task import Task


class SemiSupervisedTask(Task):
    """Cross-entropy on labelled images, Barlow Twins and consistency on unlabelled ones.

    Attributes:
        model: Classifier that is trained.
        projector: Projector from its features to the embeddings of Barlow Twins.
        ema: Exponential moving average of the classifier.
        threshold: Threshold that selects pseudo-labels.
    """

    def __init__(
        self,
        model: Classifier,
        projector: nn.Sequential,
        labeled: LabeledImages,
        unlabeled: ImagePool,
        views: Views,
        settings: SemiSupervised,
        redundancy_weight: float,
        generator: torch.Generator,
    ) -> None:
        labeled_order = ShuffledBatches(len(labeled.images), settings.batch_size, generator)
        unlabeled_order = ShuffledBatches(len(unlabeled), settings.unlabeled_batch_size, generator)
        super().__init__(generator, labeled_order, unlabeled_order)
        self._labeled_order, self._unlabeled_order = labeled_order, unlabeled_order
        self._labeled, self._unlabeled = labeled, unlabeled
        self._weak, self._strong = view_recipe(views.size, views.weak), view_recipe(views.size, views.strong)
        self._settings, self._redundancy_weight = settings, redundancy_weight

        self.model, self.projector = model, projector
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay), use_buffers=True)
        self.ema.eval().requires_grad_(False)
        self.threshold = AdaptiveThreshold(model.head.out_features, settings.ema_decay).to(unlabeled.device)

    def loss_terms(self, step: int) -> dict[str, Tensor]:
        """Return cross-entropy, invariance, redundancy and consistency of the next batches."""
        # The next labelled and unlabelled images.
        settings, device = self._settings, self._unlabeled.device
        batch = next(self._labeled_order).to(device)
        labeled, labels = self._labeled.images[batch], self._labeled.labels[batch]
        unlabeled = self._unlabeled.batch(next(self._unlabeled_order), self._unlabeled_order.upcoming())

        # Pseudo-labels, predicted by the moving average on weak views.
        with torch.no_grad(), autocast(device):
            probabilities = self.ema(draw_views(unlabeled, self._weak, self.generator)).float().softmax(1)
        pseudo_labels, selected = self.threshold(probabilities)

        # One strong view of each labelled image and two of each unlabelled one, through the network.
        images = torch.cat([labeled, unlabeled, unlabeled])
        views = draw_views(images, self._strong, self.generator, second_views=len(unlabeled))
        with autocast(device):
            features = self.model.encoder(views)
            logits = self.model.head(features).float()
            first, second = self.projector(features[len(labeled) :]).float().chunk(2)

        # The weighted terms of the loss.
        barlow_twins = barlow_twins_loss(first, second, self._redundancy_weight)
        ramp = gaussian_ramp(step, settings.steps // 2)
        consistency = consistency_loss(logits[len(labeled) :], pseudo_labels.repeat(2), selected.repeat(2))
        return {
            "cross_entropy": settings.cross_entropy_weight * F.cross_entropy(logits[: len(labeled)], labels),
            "invariance": settings.barlow_weight * barlow_twins["invariance"],
            "redundancy": settings.barlow_weight * barlow_twins["redundancy"],
            "consistency": settings.consistency_weight * ramp * consistency,
        }

    def after_step(self) -> None:
        """Update the moving average."""
        self.ema.update_parameters(self.model)


def train_semi_supervised(
    probe: Classifier,
    projector: nn.Sequential,
    labeled: LabeledImages,
    unlabeled: ImagePool,
    views: Views,
    settings: SemiSupervised,
    redundancy_weight: float,
    seed: int,
    scratch: Path,
) -> tuple[Classifier, TrainingResult]:
    """Train a classifier on labelled and unlabelled images at once.

    Args:
        probe: Linear probe to start from; it is not changed. With `settings.init` of `random`, only its architecture
            is used.
        projector: Projector that pretraining ended with, likewise.
        labeled: Images whose label is visible, on the device to train on.
        unlabeled: Unlabelled images, for the same device.
        views: Size of the views, and strong and weak augmentation.
        settings: Steps, batch sizes, optimizer, weights of the loss terms, and decay of the moving average.
        redundancy_weight: Lambda of Barlow Twins, as in pretraining.
        seed: Random seed for batch order, augmentation and random weights.
        scratch: Directory for checkpoints; see `fit`.

    Returns:
        The moving average of the classifier, and what training leaves behind.

    Raises:
        UserError: The unlabelled batch is larger than the data, or training fails; see `fit`.
    """
    require_batch(
        settings.unlabeled_batch_size, len(unlabeled), "semi_supervised.unlabeled_batch_size", "unlabelled images"
    )
    start = (probe, projector) if settings.init == "pretrained" else with_random_weights(probe, projector, seed)
    model, projector = deepcopy(start)
    model, projector = model.to(unlabeled.device).train(), projector.to(unlabeled.device).train()

    generator = torch.Generator().manual_seed(seed)
    task = SemiSupervisedTask(
        model, projector, labeled, unlabeled, views, settings, redundancy_weight, generator=generator
    )
    images_per_step = settings.batch_size + settings.unlabeled_batch_size
    plan = Plan.by_steps(
        "semi_supervised", settings.steps, images_per_step, settings.learning_rate, settings.weight_decay
    )
    result = fit(task, plan, scratch)
    average = task.ema.module
    assert isinstance(average, Classifier)
    return average, result


def with_random_weights(model: Classifier, projector: nn.Sequential, seed: int) -> tuple[Classifier, nn.Sequential]:
    """Return a classifier and a projector of the same architecture with random weights."""
    fresh = build_classifier(
        model.encoder.name, model.encoder.stem, model.head.out_features, derive_seed(seed, "weights")
    )
    layers = [layer.out_features for layer in projector if isinstance(layer, nn.Linear)]
    return fresh, build_projector(model.encoder.width, layers)
