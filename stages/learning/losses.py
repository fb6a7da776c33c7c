"""The losses, each a pure function computed on float32 (or float64), whatever the precision of the model."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """The cross-correlation matrix of two batches of embeddings (Zbontar et al. 2021, Barlow Twins, equation 2).

    Each column is centred and divided by its standard deviation over the batch, as the authors' code does by batch
    normalisation without affine weights (epsilon 1e-5).

    Args:
        first, second: (N, D) embeddings of two views of the same N images.

    Returns:
        (D, D) matrix with entries in -1..1.
    """
    with torch.autocast(first.device.type, enabled=False):
        return _standardise(first).T @ _standardise(second) / len(first)


def _standardise(embeddings: Tensor) -> Tensor:
    embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    return F.batch_norm(embeddings, None, None, training=True)


def barlow_twins_terms(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The invariance and the redundancy term of Barlow Twins (Zbontar et al. 2021, equation 1), before weighting.

    With A and B the standardised embeddings and C = A'B / N, the sum of all squares of C is the inner product of AA' and BB'
    over N^2. So a batch that is smaller than the embedding, as is usual, needs two (N, N) matrices instead of the (D, D) one.

    Args:
        first, second: (N, D) embeddings of two views of the same N images.

    Returns:
        sum over the diagonal of (1 - c)^2, and sum over all else of c^2, with c as in `cross_correlation`.
    """
    with torch.autocast(first.device.type, enabled=False):
        a, b = _standardise(first), _standardise(second)
        count, width = a.shape
        diagonal = (a * b).mean(0)
        squares = (a @ a.T * (b @ b.T)).sum() if count < width else (a.T @ b).square().sum()
        return (1 - diagonal).square().sum(), squares / count**2 - diagonal.square().sum()


def consistency(strong: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of strong views against what the model was sure of on weak ones (Sohn et al. 2020, FixMatch, eq. 4).

    Args:
        strong: (N, C) logits of the strong views.
        target: (N,) class numbers guessed on the weak views.
        weight: (N,) 1 where the guess counts and 0 where not.

    Returns:
        the mean over all N.
    """
    return (F.cross_entropy(strong.float(), target, reduction="none") * weight).mean()
