"""The linear probe against scikit-learn."""

import numpy as np
import pytest
import torch
from helpers.features import random_features
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.methods.linear_probe import as_classifier, assign_folds, fit_linear_probe
from stages.models.encoders import build_encoder
from stages.models.features import extract_features

CANDIDATES = [0.001, 0.01, 0.1, 1.0]


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_probe_logits_equal_sklearn(classes):
    features, labels = random_features(classes)
    probe = fit_linear_probe(features[None], labels, CANDIDATES, folds=5, seed=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=probe.C, max_iter=2000)).fit(
        features.astype(np.float64), labels
    )
    logits = features @ probe.weight.T + probe.bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, model.predict_proba(features.astype(np.float64)), atol=1e-4)


def test_linear_probe_chooses_best_C_inside_visible_labels():
    features, labels = random_features(n=90)
    splits = PredefinedSplit(assign_folds(labels, 5, seed=7))
    scores = [
        cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)),
            features.astype(np.float64),
            labels,
            cv=splits,
            scoring="neg_log_loss",
        ).mean()
        for c in CANDIDATES
    ]
    probe = fit_linear_probe(features[None], labels, CANDIDATES[::-1], folds=5, seed=7)
    assert CANDIDATES[int(np.argmax(scores))] == probe.C
    assert probe.folds == 5


def test_linear_probe_cross_validates_with_two_labels_per_class():
    features, labels = random_features(n=6)
    assert fit_linear_probe(features[None], labels, CANDIDATES, folds=5, seed=0).folds == 5
    alone = fit_linear_probe(features[None, :3], labels[:3], CANDIDATES, folds=5, seed=0)
    assert (alone.folds, alone.C) == (0, 0.1)


@pytest.mark.parametrize("counts", [[2, 2, 2], [25, 25], [7, 1, 3, 2], [1, 2], [5] * 10])
def test_assign_folds_keeps_every_class_in_training_part(counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    assigned = assign_folds(labels, 5, seed=0)
    for number, count in enumerate(counts):
        folds = assigned[labels == number]
        assert (folds == -1).all() if count == 1 else (folds >= 0).all()
    sizes = np.bincount(assigned[assigned >= 0])
    assert sizes.max() - sizes.min() <= 1
    for fold in range(len(sizes)):
        assert set(labels[assigned != fold]) == set(labels)


def test_linear_probe_with_class_of_one_label_is_as_good_as_without():
    """The single label of a class must neither end cross-validation nor choose the strongest penalty."""
    features, labels = random_features(classes=4, n=400)
    kept = (labels != 3) | (np.cumsum(labels == 3) <= 1)
    train, test = np.flatnonzero(kept[:200]), np.arange(200, 400)[labels[200:] != 3]
    others = train[labels[train] != 3]
    with_one = fit_linear_probe(features[None, train], labels[train], CANDIDATES, folds=5, seed=0)
    without = fit_linear_probe(features[None, others], labels[others], CANDIDATES, folds=5, seed=0)
    hits = [
        ((features[test] @ probe.weight.T + probe.bias).argmax(1) == labels[test]).mean()
        for probe in (with_one, without)
    ]
    assert with_one.folds == 5
    assert abs(hits[0] - hits[1]) <= 0.01


def test_linear_probe_keeps_views_of_image_in_one_fold():
    features, labels = random_features(n=40)
    labels = np.random.default_rng(1).permutation(labels)
    copies = np.stack([features] * 4)
    alone = fit_linear_probe(features[None], labels, [0.01, 100.0], folds=4, seed=0)
    together = fit_linear_probe(copies, labels, [0.0025, 25.0], folds=4, seed=0)
    assert together.C * 4 == alone.C, "copies of held-out images in the training folds would favour the weak penalty"
    np.testing.assert_allclose(together.weight, alone.weight, atol=2e-3)


def test_as_classifier_gives_logits_of_linear_probe():
    torch.manual_seed(0)
    encoder = build_encoder("narrow", "conv3_stride2")
    images = torch.randint(0, 256, (30, 16, 16, 3), dtype=torch.uint8)
    features = extract_features(encoder, images, 16)
    probe = fit_linear_probe(features[None], np.arange(30) % 3, [0.1], folds=3, seed=0)
    logits = extract_features(as_classifier(encoder, probe), images, 16)
    np.testing.assert_allclose(logits, features @ probe.weight.T + probe.bias, atol=0.05)
