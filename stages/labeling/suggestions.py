"""Which images to label next: the most typical image of each part of feature space that has no label yet."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

_NEIGHBOURS = 20
_MOST_CLUSTERS, _MOST_EXACT_CLUSTERS = 500, 50
_BATCH = 4096


def suggest(
    features: NDArray[np.float32], labeled_features: NDArray[np.float32], count: int, seed: int
) -> pd.DataFrame:
    """Choose images to label by TypiClust (Hacohen et al. 2022, Algorithm 1).

    Images with and without a label are clustered together by k-means, in as many clusters as there will be labels, at
    most 500. The image that comes next is of the clusters with the fewest labels, of the largest among them; and within
    the cluster, the one with the smallest mean distance to its nearest neighbours, at most 20.

    Args:
        features: (N, D) features of images without a label.
        labeled_features: (M, D) features of images with one; M may be 0.
        count: Number of images to choose; all N if there are fewer.
        seed: Random seed for the clustering.

    Returns:
        One row per chosen image, in the order in which to label them: its `index` in 0..N - 1, the number of images
        without a label in its cluster, which it `stands_for`, and its `typicality`, the inverse of the mean distance.
    """
    count = min(count, len(features))
    clusters = _cluster(np.concatenate([labeled_features, features]), len(labeled_features) + count, seed)
    labels_in = np.bincount(clusters[: len(labeled_features)], minlength=clusters.max(initial=-1) + 1)
    members = [np.flatnonzero(clusters[len(labeled_features) :] == cluster) for cluster in range(len(labels_in))]
    sizes = [len(indices) for indices in members]
    waiting = [_by_typicality(_normalized(features[indices])) for indices in members]

    rows = []
    for _ in range(count):
        cluster = min(
            (number for number, ordered in enumerate(waiting) if ordered),
            key=lambda number: (labels_in[number], -sizes[number]),
        )
        place, typicality = waiting[cluster].pop(0)
        labels_in[cluster] += 1
        rows.append((int(members[cluster][place]), sizes[cluster], round(typicality, 6)))
    return pd.DataFrame(rows, columns=["index", "stands_for", "typicality"])


def _cluster(features: NDArray[np.float32], clusters: int, seed: int) -> NDArray[np.int64]:
    """Return the cluster of each image; none is empty."""
    clusters = min(clusters, _MOST_CLUSTERS, len(features))
    if clusters == 0:
        return np.empty(0, np.int64)
    exact = clusters <= _MOST_EXACT_CLUSTERS
    means = (
        KMeans(clusters, n_init=1, random_state=seed)
        if exact
        else MiniBatchKMeans(clusters, n_init=1, batch_size=_BATCH, random_state=seed)
    )
    found: NDArray[np.int64] = np.unique(means.fit_predict(_normalized(features)), return_inverse=True)[1]
    return found


def _by_typicality(features: NDArray[np.float32]) -> list[tuple[int, float]]:
    """Return the place of each image of a cluster and its typicality, most typical first."""
    if len(features) < 2:
        return [(place, 0.0) for place in range(len(features))]
    neighbours = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(features) - 1)).fit(features)
    distances, _ = neighbours.kneighbors()
    typicality = 1 / np.maximum(distances.mean(1), 1e-12)
    return [(int(place), float(typicality[place])) for place in np.argsort(-typicality, kind="stable")]


def _normalized(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    normalized: NDArray[np.float32] = features / np.maximum(lengths, 1e-12)
    return normalized
