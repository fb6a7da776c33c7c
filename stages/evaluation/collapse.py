"""Detection of collapsed encoders."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.models.features import extract_features

COLLAPSE_CHECK_IMAGES = 500
_COLLAPSED_BELOW = 1.5


def effective_rank(features: NDArray[np.float32]) -> float:
    """Return the effective rank of (N, D) features, RankMe (Garrido et al. 2023, equation 1).

    It is the exponential of the entropy of the normalised singular values, in 1..min(N, D) up to rounding; 1 is a full
    collapse.
    """
    singular_values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    p = singular_values / max(singular_values.sum(), 1e-300) + 1e-7
    return float(np.exp(-(p * np.log(p)).sum()))


def check_collapse(encoder: nn.Module, images: Tensor, size: int) -> dict[str, float | bool]:
    """Check whether an encoder maps all images to nearly the same direction.

    Args:
        encoder: Encoder; its weights, statistics and mode stay as they are.
        images: (N, H, W, 3) uint8 images on the device of the encoder; `COLLAPSE_CHECK_IMAGES` of them are enough.
        size: Height and width of the views in pixels.

    Returns:
        `effective_rank` of the features, and `collapsed`: whether it is below 1.5.
    """
    rank = effective_rank(extract_features(encoder, images, size))
    return {"effective_rank": round(rank, 6), "collapsed": rank < _COLLAPSED_BELOW}


def collapse_warning(collapse: Mapping[str, float | bool]) -> str:
    """Return the warning that a stage appends to its line of result; empty for an encoder that has not collapsed.

    Args:
        collapse: Result of `check_collapse`.
    """
    if not collapse["collapsed"]:
        return ""
    return (
        f"; COLLAPSED: the encoder maps all images to nearly the same features (effective rank "
        f"{collapse['effective_rank']:.2f}), so results built on it are meaningless: lower the learning rate, "
        "or raise redundancy_weight or the batch size"
    )
