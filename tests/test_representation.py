"""Features, and the metrics that describe them, against independent computations."""

import numpy as np
import pytest
import torch
from helpers.features import random_features
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.evaluation.collapse import check_collapse, collapse_warning, effective_rank
from stages.evaluation.representation import alignment, knn_accuracy, linear_accuracy, uniformity
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


def test_knn_accuracy_equals_sklearn():
    features, labels = random_features(n=60)
    knn = KNeighborsClassifier(5, metric="cosine", algorithm="brute")
    expected = (cross_val_predict(knn, features, labels, cv=LeaveOneOut()) == labels).mean()
    assert knn_accuracy(features, labels, 5) == pytest.approx(expected, abs=1e-9)
    assert knn_accuracy(features[:4], labels[:4], 10) <= 1


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


def test_effective_rank_of_known_matrices():
    assert effective_rank(np.eye(8, dtype=np.float32)) == pytest.approx(8, rel=1e-3)
    assert effective_rank(np.ones((20, 8), np.float32)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.zeros((20, 8), np.float32)) == pytest.approx(1, abs=1e-3)


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
