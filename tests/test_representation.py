"""Features, and the metrics that describe them, against independent computations."""

import numpy as np
import pytest
import torch
from helpers.features import random_features
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.evaluation.collapse import check_collapse, collapse_warning, effective_rank, ranks
from stages.evaluation.representation import (
    alignment,
    knn_accuracy,
    leave_one_out_accuracy,
    linear_accuracy,
    nearest_distance,
    uniformity,
)
from stages.images.views import center_crop_views
from stages.models.encoders import Classifier, build_encoder
from stages.models.features import extract_features


def test_extract_features_leaves_model_unchanged():
    torch.manual_seed(0)
    model = Classifier(build_encoder("narrow", "conv3"), 4)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8)
    found = extract_features(model, images, 16)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
        np.testing.assert_array_equal(
            found, model(center_crop_views(images, 16).contiguous(memory_format=torch.channels_last)).float().numpy()
        )


def _knn(neighbours):
    weights = lambda distances: np.exp((1 - distances) / 0.1)  # noqa: E731
    return KNeighborsClassifier(neighbours, metric="cosine", algorithm="brute", weights=weights)


def test_knn_accuracies_equal_sklearn():
    features, labels = random_features(n=160)
    for neighbours in (5, 59):
        expected = (
            cross_val_predict(_knn(neighbours), features[:60], labels[:60], cv=LeaveOneOut()) == labels[:60]
        ).mean()
        assert leave_one_out_accuracy(features[:60], labels[:60], neighbours) == pytest.approx(expected, abs=1e-9)
        expected = _knn(neighbours).fit(features[:60], labels[:60]).score(features[60:], labels[60:])
        found = knn_accuracy(features[:60], labels[:60], features[60:], labels[60:], neighbours)
        assert found == pytest.approx(expected, abs=1e-9)
    everyone = _knn(60).fit(features[:60], labels[:60]).score(features[60:], labels[60:])
    assert knn_accuracy(features[:60], labels[:60], features[60:], labels[60:]) == pytest.approx(everyone)
    assert leave_one_out_accuracy(features[:4], labels[:4], 10) <= 1


def test_leave_one_out_accuracy_does_not_depend_on_class_numbers():
    features, labels = random_features(n=60)
    renumbered = np.array([2, 0, 1])[labels]
    assert leave_one_out_accuracy(features, labels, 10) == leave_one_out_accuracy(features, renumbered, 10)


def test_nearest_distance_equals_sklearn():
    features, _ = random_features(n=90)
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(features[:50])
    distances, _ = search.kneighbors(features[50:])
    assert nearest_distance(features[:50], features[50:]) == pytest.approx(np.median(distances), abs=1e-6)


def test_linear_accuracy_equals_sklearn_and_is_nan_for_class_of_one():
    features, labels = random_features()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    splits = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_predict(model, features.astype(np.float64), labels, cv=splits) == labels
    assert linear_accuracy(features, labels, seed=3) == pytest.approx(expected.mean())
    assert np.isnan(linear_accuracy(features, np.where(np.arange(60) == 0, 3, labels), seed=0))


def test_alignment_and_uniformity_equal_loop():
    first, _ = random_features(n=8)
    second, _ = random_features(n=8, seed=1)
    unit = lambda row: row / np.sqrt((row**2).sum())  # noqa: E731
    apart = [((unit(a) - unit(b)) ** 2).sum() for a, b in zip(first, second, strict=True)]
    assert alignment(first, second) == pytest.approx(np.mean(apart), rel=1e-5)
    pairs = [np.exp(-2 * ((unit(first[i]) - unit(first[j])) ** 2).sum()) for i in range(8) for j in range(i)]
    assert uniformity(first) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)


def test_uniformity_of_zero_features_is_nan():
    assert np.isnan(uniformity(np.zeros((8, 4), np.float32)))
    assert np.isnan(uniformity(np.eye(4, dtype=np.float32) - np.diag([1, 0, 0, 0]).astype(np.float32)))


def test_effective_rank_of_known_matrices():
    assert effective_rank(np.eye(8, dtype=np.float32)) == pytest.approx(8, rel=1e-3)
    assert effective_rank(np.ones((20, 8), np.float32)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.zeros((20, 8), np.float32)) == pytest.approx(1, abs=1e-3)


def test_centred_rank_ignores_mean():
    features = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    uncentered, centered = ranks(features + 100)
    assert uncentered < 2
    assert centered == pytest.approx(effective_rank(features), rel=0.01)


def test_collapse_warning_of_pretraining_finds_partial_collapse():
    found = {"effective_rank": 3.0, "centered_rank": 3.2, "rank_images": 2000, "collapsed": False}
    assert collapse_warning(found) == ""
    assert "PARTLY COLLAPSED" in collapse_warning(found, pretrained=True)
    assert collapse_warning(found | {"centered_rank": 40.0}, pretrained=True) == ""


def test_check_collapse_finds_and_reports_collapse():
    torch.manual_seed(0)
    encoder = build_encoder("narrow", "conv3_stride2")
    images = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8)
    healthy = check_collapse(encoder, images, 16)
    assert not healthy["collapsed"]
    assert collapse_warning(healthy) == ""
    alike = check_collapse(encoder, images[:1].expand(40, -1, -1, -1), 16)
    assert alike["collapsed"]
    assert alike["effective_rank"] == pytest.approx(1, abs=0.01)
    assert "COLLAPSED" in collapse_warning(alike)
