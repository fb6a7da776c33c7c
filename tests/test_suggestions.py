"""Which images to label next."""

import numpy as np
import pytest

from stages.labeling.suggestions import suggest


def _blobs(sizes, seed=0):
    """Features around one direction for each size, and the blob of each."""
    rng = np.random.default_rng(seed)
    blob = np.repeat(np.arange(len(sizes)), sizes)
    features = np.eye(len(sizes), 8)[blob] + rng.normal(scale=0.03, size=(len(blob), 8))
    return features.astype(np.float32), blob


def test_suggest_takes_largest_clusters_first_and_each_once():
    features, blob = _blobs([30, 80, 50, 40])
    found = suggest(features, features[:0], 4, 0)
    assert blob[found["index"]].tolist() == [1, 2, 3, 0]
    assert found["stands_for"].tolist() == [80, 50, 40, 30]


def test_suggest_turns_to_clusters_without_labels():
    features, blob = _blobs([30, 80, 50, 40])
    labeled = np.concatenate([features[blob == 1][:1], features[blob == 2][:1]])
    rest = np.concatenate([features[blob == number][number in (1, 2) :] for number in range(4)])
    kept = np.concatenate([blob[blob == number][number in (1, 2) :] for number in range(4)])
    assert set(kept[suggest(rest, labeled, 2, 0)["index"]]) == {0, 3}


def test_suggest_takes_most_typical_image_of_cluster():
    features, blob = _blobs([40, 40])
    normalized = features / np.linalg.norm(features, axis=1, keepdims=True)
    for index, typicality in suggest(features, features[:0], 2, 0)[["index", "typicality"]].to_numpy():
        of_blob = normalized[blob == blob[int(index)]]
        distances = np.sort(np.linalg.norm(of_blob[:, None] - of_blob[None], axis=2), axis=1)[:, 1:21].mean(1)
        assert typicality == pytest.approx(1 / distances.min(), rel=1e-3)


def test_suggest_chooses_every_image_once():
    features, _ = _blobs([5, 6])
    found = suggest(features, features[:3], 50, 0)
    assert sorted(found["index"]) == list(range(11))
    assert suggest(features[:1], features[:0], 3, 0)["index"].tolist() == [0]
    assert len(suggest(features[:0], features[:2], 3, 0)) == 0
    alike = np.ones((9, 4), np.float32)
    assert sorted(suggest(alike, alike[:2], 9, 0)["index"]) == list(range(9))


def test_suggest_is_determined_by_seed():
    features, _ = _blobs([100] * 8)
    first, second = (suggest(features, features[:5], 60, 3) for _ in range(2))
    assert first.equals(second)
