"""Metrics that describe the features of a frozen encoder."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.evaluation.collapse import ranks

KNN_TEMPERATURE = 0.1
_CHUNK = 1000


def describe_features(
    features: NDArray[np.float32],
    view_features: NDArray[np.float32],
    rank_features: NDArray[np.float32],
    labels: NDArray[np.int64],
    neighbours: int,
    seed: int,
) -> dict[str, float]:
    """Return the metrics of this module at one checkpoint, and the effective ranks, by name.

    Args:
        features: (N, D) features of N images.
        view_features: (2, N, D) features of two random views of each image.
        rank_features: (M, D) features that the effective ranks are computed from.
        labels: (N,) class numbers of the N images.
        neighbours: Number of nearest neighbours that vote in `leave_one_out_accuracy`.
        seed: Random seed for the folds of `linear_accuracy`.
    """
    uncentered, centered = ranks(rank_features)
    return {
        "knn_accuracy": leave_one_out_accuracy(features, labels, neighbours),
        "linear_accuracy": linear_accuracy(features, labels, seed),
        "effective_rank": uncentered,
        "centered_rank": centered,
        "alignment": alignment(*view_features),
        "uniformity": uniformity(features),
    }


def knn_accuracy(
    bank: NDArray[np.float32],
    bank_labels: NDArray[np.int64],
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    neighbours: int = 200,
) -> float:
    """Return the top-1 accuracy of a weighted vote among the nearest neighbours by cosine similarity.

    A neighbour of similarity s has the weight exp(s / 0.1), as in Wu et al. 2018 (Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination, section 3.4) and most published figures since, with 200 neighbours.

    Args:
        bank: (N, D) features of labelled images.
        bank_labels: (N,) their class numbers.
        queries: (M, D) features of images to classify.
        query_labels: (M,) their class numbers.
        neighbours: Number of neighbours that vote; a number above N counts as N.
    """
    unit, neighbours = _unit(bank), min(neighbours, len(bank))
    predicted = [_votes(chunk @ unit.T, bank_labels, neighbours).argmax(1) for chunk in _chunks(_unit(queries))]
    return float((np.concatenate(predicted) == query_labels).mean())


def leave_one_out_accuracy(features: NDArray[np.float32], labels: NDArray[np.int64], neighbours: int) -> float:
    """Return the accuracy of `knn_accuracy` if each image is classified by all others.

    Args:
        features: (N, D) features.
        labels: (N,) class numbers.
        neighbours: Number of neighbours that vote; a number above N - 1 counts as N - 1.
    """
    unit = _unit(features)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    votes = _votes(similarity, labels, min(neighbours, len(unit) - 1))
    return float((votes.argmax(1) == labels).mean())


def nearest_distance(bank: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """Return the median cosine distance of images to the nearest one of a bank, in 0..2.

    Args:
        bank: (N, D) features of the bank.
        queries: (M, D) features of other images.
    """
    unit = _unit(bank)
    nearest = [(chunk @ unit.T).max(1) for chunk in _chunks(_unit(queries))]
    return max(0.0, float(np.median(1 - np.concatenate(nearest))))


def _votes(similarity: NDArray[np.float32], labels: NDArray[np.int64], neighbours: int) -> NDArray[np.float64]:
    """Return the (M, C) votes of the nearest of N labelled images, given (M, N) cosine similarities."""
    nearest = np.argpartition(-similarity, neighbours - 1, axis=1)[:, :neighbours]
    weights = np.exp(np.take_along_axis(similarity, nearest, 1).astype(np.float64) / KNN_TEMPERATURE)
    return np.stack([(weights * (labels[nearest] == number)).sum(1) for number in range(labels.max() + 1)], 1)


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
    NaN if a feature vector is zero, which has no place on the sphere.
    """
    if not features.any(axis=1).all():
        return float("nan")
    unit = _unit(features).astype(np.float64)
    squared = 2 - 2 * (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.log(np.exp(-2 * squared).mean()))


def _chunks(features: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Split features into chunks whose similarities to many others fit into memory."""
    return [features[start : start + _CHUNK] for start in range(0, len(features), _CHUNK)]


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit
