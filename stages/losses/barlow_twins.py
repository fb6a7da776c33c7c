"""The loss of Barlow Twins (Zbontar et al. 2021), computed in float32 or float64 whatever the model's precision."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Compute the cross-correlation matrix of two batches of embeddings (Zbontar et al. 2021, equation 2).

    Each column is centred and divided by its standard deviation over the batch, as the authors' code does by batch
    normalisation without affine weights (epsilon 1e-5). The matrix is for display and tests: the loss is computed by
    `barlow_twins_terms`, without the matrix where that is faster.

    Args:
        first: (N, D) embeddings of one view of N images.
        second: (N, D) embeddings of another view of the same images.

    Returns:
        (D, D) matrix with entries in -1..1.
    """
    with torch.autocast(first.device.type, enabled=False):
        return _standardise(first).T @ _standardise(second) / len(first)


def barlow_twins_terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the invariance and redundancy terms of Barlow Twins (Zbontar et al. 2021, equation 1), unweighted.

    With A and B the standardised embeddings and C = A'B / N, the sum of all squares of C is the inner product of AA'
    and BB' over N^2. A batch that is smaller than the embedding, as is usual, thus needs two (N, N) matrices instead
    of the (D, D) one.

    Args:
        first: (N, D) embeddings of one view of N images.
        second: (N, D) embeddings of another view of the same images.

    Returns:
        The sum of (1 - c)^2 over the diagonal and the sum of c^2 off it, with c as in `cross_correlation`.
    """
    with torch.autocast(first.device.type, enabled=False):
        a, b = _standardise(first), _standardise(second)
        count, width = a.shape
        diagonal = (a * b).mean(0)
        squares = (a @ a.T * (b @ b.T)).sum() if count < width else (a.T @ b).square().sum()
        return (1 - diagonal).square().sum(), squares / count**2 - diagonal.square().sum()


def barlow_twins_loss(first: Tensor, second: Tensor, redundancy_weight: float) -> dict[str, Tensor]:
    """Compute the two weighted terms of the loss, divided by the width D of the embedding.

    Dividing by D keeps the loss, and with it a sensible weight beside other losses, comparable between projectors.

    Args:
        first: (N, D) embeddings of one view of N images.
        second: (N, D) embeddings of another view of the same images.
        redundancy_weight: Lambda of the paper's equation 1.

    Returns:
        Scalars `invariance` and `redundancy`, whose sum is the loss.
    """
    invariance, redundancy = barlow_twins_terms(first, second)
    return {
        "invariance": invariance / first.shape[1],
        "redundancy": redundancy_weight * redundancy / first.shape[1],
    }


def _standardise(embeddings: Tensor) -> Tensor:
    embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    return F.batch_norm(embeddings, None, None, training=True)
