"""Training on the visible labels alone: from the start (the baseline) or from the probe (fine-tuning)."""

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.images.views import ViewRecipe, draw_views
from stages.models.batches import LabeledImages, ShuffledBatches
from stages.models.device import autocast
from stages.models.encoders import Classifier
from stages.pipeline.params import Supervised
from stages.training.loop import Plan, TrainingResult, fit
from stages.training.task import Task


class SupervisedTask(Task):
    """Cross-entropy on random views of labelled images."""

    def __init__(
        self, model: Classifier, labeled: LabeledImages, views: ViewRecipe, batch_size: int, generator: torch.Generator
    ) -> None:
        order = ShuffledBatches(len(labeled.images), batch_size, generator)
        super().__init__(generator, order)
        self._order = order
        self.model, self._labeled, self._views = model, labeled, views

    def loss_terms(self, step: int) -> dict[str, Tensor]:
        """Return the cross-entropy of the next batch."""
        images, labels = self._labeled
        batch = next(self._order).to(images.device)
        with autocast(images.device):
            logits = self.model(draw_views(images[batch], self._views, self.generator))
        return {"cross_entropy": F.cross_entropy(logits.float(), labels[batch])}


def train_supervised(
    start: Classifier,
    labeled: LabeledImages,
    name: str,
    views: ViewRecipe,
    settings: Supervised,
    seed: int,
    scratch: Path,
) -> tuple[Classifier, TrainingResult]:
    """Train a classifier by cross-entropy on random views of labelled images.

    Args:
        start: Classifier to start from; it is not changed.
        labeled: Images whose label is visible, on the device to train on.
        name: Section of the parameters that `settings` are, `supervised` or `fine_tune`, which names the run in
            messages.
        views: Augmentation.
        settings: Steps, batch size, peak learning rate and weight decay.
        seed: Random seed for batch order and augmentation.
        scratch: Directory for checkpoints; see `fit`.

    Returns:
        The trained classifier, and what training leaves behind.

    Raises:
        UserError: Training fails; see `fit`.
    """
    model = deepcopy(start).to(labeled.images.device).train()
    task = SupervisedTask(model, labeled, views, settings.batch_size, torch.Generator().manual_seed(seed))
    plan = Plan.by_steps(
        name, settings.steps, settings.batch_size, settings.learning_rate, weight_decay=settings.weight_decay
    )
    return model, fit(task, plan, scratch)
