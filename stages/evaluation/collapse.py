"""Detection of collapsed encoders."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.models.features import extract_features

# The effective rank grows with the number of images until there are many more of them than dimensions.
RANK_IMAGES = 2000
_COLLAPSED_BELOW = 1.5
_PARTLY_COLLAPSED_BELOW = 6.0


class Collapse(TypedDict):
    """How many directions the features of an encoder span.

    Attributes:
        effective_rank: `effective_rank` of the features.
        centered_rank: The same after their mean was subtracted.
        rank_images: Number of images that both were computed from.
        collapsed: Whether all images have nearly the same features.
    """

    effective_rank: float
    centered_rank: float
    rank_images: int
    collapsed: bool


def effective_rank(features: NDArray[np.float32]) -> float:
    """Return the effective rank of (N, D) features, RankMe (Garrido et al. 2023, equation 1).

    It is the exponential of the entropy of the normalised singular values, in 1..min(N, D) up to rounding; 1 is a full
    collapse. It can be compared between encoders only for the same number of images.
    """
    singular_values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    p = singular_values / max(singular_values.sum(), 1e-300) + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def ranks(features: NDArray[np.float32]) -> tuple[float, float]:
    """Return the effective rank of (N, D) features as they are, and after their mean was subtracted.

    The mean of features after a ReLU is a large direction of its own, which hides how the others differ.
    """
    return effective_rank(features), effective_rank(features - features.mean(0))


def check_collapse(encoder: nn.Module, images: Tensor, size: int) -> Collapse:
    """Check whether an encoder maps all images to nearly the same direction.

    Args:
        encoder: Encoder; its weights, statistics and mode stay as they are.
        images: (N, H, W, 3) uint8 images on the device of the encoder; `RANK_IMAGES` of them are enough.
        size: Height and width of the views in pixels.
    """
    uncentered, centered = ranks(extract_features(encoder, images, size))
    return {
        "effective_rank": round(uncentered, 6),
        "centered_rank": round(centered, 6),
        "rank_images": len(images),
        "collapsed": uncentered < _COLLAPSED_BELOW,
    }


def collapse_warning(collapse: Collapse, *, pretrained: bool = False) -> str:
    """Return the warning that a stage appends to its line of result; empty for an encoder that has not collapsed.

    Args:
        collapse: Result of `check_collapse`.
        pretrained: Whether the encoder was trained without labels, so that few directions are a partial collapse.
            Training on labels rightly leaves about as many as there are classes.
    """
    if collapse["collapsed"]:
        what = "COLLAPSED: the encoder maps all images to nearly the same features (effective rank"
        rank = collapse["effective_rank"]
        consequence = "results built on it are meaningless"
    elif pretrained and collapse["centered_rank"] < _PARTLY_COLLAPSED_BELOW:
        what = "PARTLY COLLAPSED: the features vary in few directions only (effective rank around their mean"
        rank = collapse["centered_rank"]
        consequence = "methods built on it will be weak"
    else:
        return ""
    return (
        f"; {what} {rank:.2f}), so {consequence}: lower the learning rate, or raise redundancy_weight or the batch size"
    )
