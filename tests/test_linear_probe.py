"""The linear probe against scikit-learn."""

import numpy as np
import pytest
import torch
from helpers.features import random_features
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.methods.linear_probe import as_classifier, fit_linear_probe
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
    splits = StratifiedKFold(5, shuffle=True, random_state=7)
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


def test_linear_probe_uses_fewer_folds_with_few_labels():
    features, labels = random_features(n=6)
    assert fit_linear_probe(features[None], labels, CANDIDATES, folds=5, seed=0).folds == 2
    alone = fit_linear_probe(features[None, :3], labels[:3], CANDIDATES, folds=5, seed=0)
    assert (alone.folds, alone.C) == (0, 0.001)


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
