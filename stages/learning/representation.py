"""Features of a frozen encoder, and the numbers that describe them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from stages.images.views import ViewRecipe, draw_views, plain_views
from stages.learning.training import mixed_precision

COLLAPSED_BELOW = 1.5
LOOKED_AT = 500
_CHUNK = 500


def outputs(model: nn.Module, images: Tensor, size: int) -> NDArray[np.float32]:
    """What a model in evaluation mode says about plain views of images: (N, H, W, 3) uint8 to (N, D)."""
    return _frozen(model, images, lambda chunk: plain_views(chunk, size))


def view_outputs(model: nn.Module, images: Tensor, recipe: ViewRecipe, views: int, seed: int) -> NDArray[np.float32]:
    """What a model in evaluation mode says about random views of images: (N, H, W, 3) uint8 to (views, N, D)."""
    generator = torch.Generator().manual_seed(seed)
    return np.stack([_frozen(model, images, lambda chunk: draw_views(chunk, recipe, generator)) for _ in range(views)])


@torch.no_grad()
def _frozen(model: nn.Module, images: Tensor, views: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    """Outputs in evaluation mode, in chunks; the model's weights, statistics and mode stay as they were."""
    was_training = model.training
    model.eval()
    with mixed_precision(images.device):
        chunks = [
            model(views(chunk).contiguous(memory_format=torch.channels_last)).float().cpu()
            for chunk in images.split(_CHUNK)
        ]
    model.train(was_training)
    return torch.cat(chunks).numpy()


def check_collapse(encoder: nn.Module, images: Tensor, size: int) -> dict[str, float | bool]:
    """Whether an encoder tells images apart at all, from (N, H, W, 3) uint8 ones, of which `LOOKED_AT` are enough.

    Returns:
        `effective_rank` of the features, and `collapsed`: it is below 1.5, as when all features point the same way.
    """
    rank = effective_rank(outputs(encoder, images, size))
    return {"effective_rank": round(rank, 6), "collapsed": rank < COLLAPSED_BELOW}


def describe_features(
    whole: NDArray[np.float32], twins: NDArray[np.float32], labels: NDArray[np.int64], neighbours: int, seed: int
) -> dict[str, float]:
    """The numbers below, by name, for (N, D) features of N images and (2, N, D) of two views of each."""
    return {
        "knn_accuracy": knn_accuracy(whole, labels, neighbours),
        "linear_accuracy": linear_accuracy(whole, labels, seed),
        "effective_rank": effective_rank(whole),
        "alignment": alignment(*twins),
        "uniformity": uniformity(whole),
    }


def knn_accuracy(features: NDArray[np.float32], labels: NDArray[np.int64], neighbours: int) -> float:
    """Top-1 accuracy of a vote among the nearest other images, by cosine similarity (leave one out)."""
    unit = _unit(features)
    neighbours = min(neighbours, len(unit) - 1)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, neighbours, axis=1)[:, :neighbours]
    votes = np.stack([(labels[nearest] == number).sum(1) for number in range(labels.max() + 1)], 1)
    return float((votes.argmax(1) == labels).mean())


def linear_accuracy(features: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> float:
    """Cross-validated top-1 accuracy of logistic regression on standardised features, with a fixed penalty (C = 0.1).

    A number to watch a representation by, without the views and the choice of penalty that the linear probe has. It is not a
    number if a class has a single image.

    Args:
        features: (N, D).
        labels: (N,) class numbers.
        seed: of the folds, of which there are five, or as many as the rarest class has images.
    """
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2 or len(np.unique(labels)) < 2:
        return float("nan")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(cross_val_score(model, features.astype(np.float64), labels, cv=splits).mean())


def effective_rank(features: NDArray[np.float32]) -> float:
    """RankMe (Garrido et al. 2023, equation 1): exp of the entropy of the singular values; 1 is a full collapse."""
    values = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    share = values / max(values.sum(), 1e-300) + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def alignment(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean squared distance between two views' features on the unit sphere (Wang and Isola 2020, section 4.1)."""
    return float(np.square(_unit(first) - _unit(second)).sum(1).mean())


def uniformity(features: NDArray[np.float32]) -> float:
    """Log of the mean Gaussian potential of all pairs on the unit sphere (Wang and Isola 2020, section 4.1), t = 2."""
    unit = _unit(features).astype(np.float64)
    squared = 2 - 2 * (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.log(np.exp(-2 * squared).mean()))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
