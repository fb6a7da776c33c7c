"""The probe against scikit-learn, and the numbers that describe features against independent ones."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.images.views import plain_views
from stages.learning.encoders import Classifier, build_encoder
from stages.learning.linear_probe import as_classifier, fit_linear_probe
from stages.learning.representation import (
    alignment,
    check_collapse,
    effective_rank,
    knn_accuracy,
    linear_accuracy,
    outputs,
    uniformity,
)
from stages.reporting.results import collapse_warning

STRENGTHS = [0.001, 0.01, 0.1, 1.0]


def _features(classes=3, n=60, d=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = rng.normal(size=(n, d)) * np.arange(1, d + 1) + 3 * rng.normal(size=(classes, d))[labels]
    return features.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_logits_equal_scikit_learns(classes):
    features, labels = _features(classes)
    probe = fit_linear_probe(features[None], labels, strengths=STRENGTHS, folds=5, seed=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=probe.strength, max_iter=2000)).fit(
        features.astype(np.float64), labels
    )
    logits = features @ probe.weight.T + probe.bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, model.predict_proba(features.astype(np.float64)), atol=1e-4)


def test_strength_is_the_best_inside_the_visible_labels():
    features, labels = _features(n=90)
    splits = StratifiedKFold(5, shuffle=True, random_state=7)
    scores = [
        cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)),
            features.astype(np.float64),
            labels,
            cv=splits,
            scoring="neg_log_loss",
        ).mean()
        for c in STRENGTHS
    ]
    probe = fit_linear_probe(features[None], labels, strengths=STRENGTHS[::-1], folds=5, seed=7)
    assert probe.strength == STRENGTHS[int(np.argmax(scores))]
    assert probe.folds == 5


def test_few_labels_mean_fewer_folds_and_none_with_one_label():
    features, labels = _features(n=6)
    assert fit_linear_probe(features[None], labels, strengths=STRENGTHS, folds=5, seed=0).folds == 2
    alone = fit_linear_probe(features[None, :3], labels[:3], strengths=STRENGTHS, folds=5, seed=0)
    assert (alone.folds, alone.strength) == (0, 0.001)


def test_as_classifier_gives_the_probes_logits_and_leaves_the_encoder_alone():
    torch.manual_seed(0)
    encoder = build_encoder("narrow", "conv3_stride2")
    images = torch.randint(0, 256, (30, 16, 16, 3), dtype=torch.uint8)
    features = outputs(encoder, images, 16)
    probe = fit_linear_probe(features[None], np.arange(30) % 3, strengths=[0.1], folds=3, seed=0)
    logits = outputs(as_classifier(encoder, probe), images, 16)
    np.testing.assert_allclose(logits, features @ probe.weight.T + probe.bias, atol=0.05)


def test_reading_features_moves_nothing():
    torch.manual_seed(0)
    model = Classifier(build_encoder("narrow", "conv3"), 4)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randint(0, 256, (9, 16, 16, 3), dtype=torch.uint8)
    found = outputs(model, images, 16)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
        np.testing.assert_array_equal(
            found, model(plain_views(images, 16).contiguous(memory_format=torch.channels_last)).float().numpy()
        )


def test_neighbours_equal_scikit_learns():
    features, labels = _features(n=60)
    knn = KNeighborsClassifier(5, metric="cosine", algorithm="brute")
    expected = (cross_val_predict(knn, features, labels, cv=LeaveOneOut()) == labels).mean()
    assert knn_accuracy(features, labels, 5) == pytest.approx(expected, abs=1e-9)
    assert knn_accuracy(features[:4], labels[:4], 10) <= 1


def test_effective_rank_of_known_matrices():
    assert effective_rank(np.eye(8, dtype=np.float32)) == pytest.approx(8, rel=1e-3)
    assert effective_rank(np.ones((20, 8), np.float32)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.zeros((20, 8), np.float32)) == pytest.approx(1, abs=1e-3)


def test_a_collapse_is_found_and_said():
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


def test_alignment_and_uniformity_by_loop():
    first, _ = _features(n=8)
    second, _ = _features(n=8, seed=1)
    unit = lambda row: row / np.sqrt((row**2).sum())  # noqa: E731
    apart = [((unit(a) - unit(b)) ** 2).sum() for a, b in zip(first, second, strict=True)]
    assert alignment(first, second) == pytest.approx(np.mean(apart), rel=1e-5)
    pairs = [np.exp(-2 * ((unit(first[i]) - unit(first[j])) ** 2).sum()) for i in range(8) for j in range(i)]
    assert uniformity(first) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)


def test_views_of_an_image_stay_in_its_fold():
    features, labels = _features(n=40)
    labels = np.random.default_rng(1).permutation(labels)
    copies = np.stack([features] * 4)
    alone = fit_linear_probe(features[None], labels, strengths=[0.01, 100.0], folds=4, seed=0)
    together = fit_linear_probe(copies, labels, strengths=[0.0025, 25.0], folds=4, seed=0)
    assert together.strength * 4 == alone.strength, (
        "copies of held-out images in the training folds would favour the weak penalty"
    )
    np.testing.assert_allclose(together.weight, alone.weight, atol=2e-3)


def test_linear_accuracy_is_cross_validated_and_no_number_with_a_class_of_one():
    features, labels = _features()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    splits = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_predict(model, features.astype(np.float64), labels, cv=splits) == labels
    assert linear_accuracy(features, labels, seed=3) == pytest.approx(expected.mean())
    assert np.isnan(linear_accuracy(features, np.where(np.arange(60) == 0, 3, labels), seed=0))
