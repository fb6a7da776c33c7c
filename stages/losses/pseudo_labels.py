"""Pseudo-labels: confident predictions on weak views are the targets for strong views of the same images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptiveThreshold(nn.Module):
    """Selects pseudo-labels by a confidence threshold per class that follows the model.

    The threshold is that of FreeMatch (Wang et al. 2023, equations 5 to 8).

    Attributes:
        confidence: Moving average of the largest probability, a scalar; starts at 1 / C.
        share: Moving average of the probabilities, (C,); starts at 1 / C.
    """

    confidence: Tensor
    share: Tensor

    def __init__(self, classes: int, momentum: float) -> None:
        """Create the threshold.

        Args:
            classes: Number of classes C.
            momentum: Share of the moving averages that a step keeps, in [0, 1).
        """
        super().__init__()
        self.momentum = momentum
        self.register_buffer("confidence", torch.tensor(1 / classes))
        self.register_buffer("share", torch.full((classes,), 1 / classes))

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Update the threshold by a batch and select its pseudo-labels.

        Args:
            probabilities: (N, C) class probabilities of N weak views.

        Returns:
            (N,) pseudo-labels, and (N,) weights that are 1 where the confidence reaches the threshold and 0 elsewhere.
        """
        confidence, pseudo_labels = probabilities.max(1)
        self.confidence = self.momentum * self.confidence + (1 - self.momentum) * confidence.mean()
        self.share = self.momentum * self.share + (1 - self.momentum) * probabilities.mean(0)
        threshold = self.confidence * self.share / self.share.max()
        return pseudo_labels, (confidence >= threshold[pseudo_labels]).float()


def consistency_loss(logits: Tensor, pseudo_labels: Tensor, weight: Tensor) -> Tensor:
    """Compute the cross-entropy of strong views against pseudo-labels (FixMatch: Sohn et al. 2020, equation 4).

    Args:
        logits: (N, C) logits of strong views.
        pseudo_labels: (N,) class numbers predicted on weak views.
        weight: (N,) weights, 1 where the pseudo-label counts and 0 where it does not.

    Returns:
        The mean over all N, a scalar.
    """
    return (F.cross_entropy(logits.float(), pseudo_labels, reduction="none") * weight).mean()
