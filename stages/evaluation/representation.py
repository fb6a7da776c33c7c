"""Metrics that describe the features of a frozen encoder."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.evaluation.collapse import effective_rank


def describe_features(
    features: NDArray[np.float32],
    view_features: NDArray[np.float32],
    labels: NDArray[np.int64],
    neighbours: int,
    seed: int,
) -> dict[str, float]:
    """Return all metrics of this module and the effective rank, by name.

    Args:
        features: (N, D) features of N images.
        view_features: (2, N, D) features of two random views of each image.
        labels: (N,) class numbers.
        neighbours: Number of nearest neighbours that vote in `knn_accuracy`.
        seed: Random seed for the folds of `linear_accuracy`.
    """
    return {
        "knn_accuracy": knn_accuracy(features, labels, neighbours),
        "linear_accuracy": linear_accuracy(features, labels, seed),
        "effective_rank": effective_rank(features),
        "alignment": alignment(*view_features),
        "uniformity": uniformity(features),
    }


def knn_accuracy(features: NDArray[np.float32], labels: NDArray[np.int64], neighbours: int) -> float:
    """Return the leave-one-out top-1 accuracy of a majority vote among the nearest neighbours by cosine similarity.

    Args:
        features: (N, D) features.
        labels: (N,) class numbers.
        neighbours: Number of neighbours that vote, at most N - 1; a larger number counts as N - 1.
    """
    unit = _unit(features)
    neighbours = min(neighbours, len(unit) - 1)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, neighbours, axis=1)[:, :neighbours]
    votes = np.stack([(labels[nearest] == number).sum(1) for number in range(labels.max() + 1)], 1)
    return float((votes.argmax(1) == labels).mean())


def linear_accuracy(features: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> float:
    """Return the cross-validated top-1 accuracy of logistic regression on standardised features.

    The penalty is fixed (C = 0.1) and no augmentation is used, unlike in the linear probe, so that checkpoints are
    compared alike.

    Args:
        features: (N, D) features.
        labels: (N,) class numbers.
        seed: Random seed for the folds, of which there are five, or as many as the rarest class has images.

    Returns:
        Accuracy in 0..1, or NaN if there is a single class or a class with a single image.
    """
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2 or len(np.unique(labels)) < 2:
        return float("nan")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(cross_val_score(model, features.astype(np.float64), labels, cv=splits).mean())


def alignment(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return the alignment of two views (Wang and Isola 2020, section 4.1).

    It is the mean squared distance between their features on the unit sphere, in 0..4; lower is better.

    Args:
        first: (N, D) features of one view of each image.
        second: (N, D) features of another view of each image.
    """
    return float(np.square(_unit(first) - _unit(second)).sum(1).mean())


def uniformity(features: NDArray[np.float32]) -> float:
    """Return the uniformity of features on the unit sphere (Wang and Isola 2020, section 4.1, with t = 2).

    It is the logarithm of the mean Gaussian potential of all pairs of the (N, D) features, in -8..0; lower is better.
    """
    unit = _unit(features).astype(np.float64)
    squared = 2 - 2 * (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.log(np.exp(-2 * squared).mean()))


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit
