"""A linear classifier on frozen features; its strength is chosen inside the visible labels alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.learning.encoders import Classifier, Encoder


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: logits are features @ weight.T + bias.

    Attributes:
        weight: (C, D); the scaling of the features is folded in.
        bias: (C,).
        strength: inverse of the L2 penalty that was used.
        folds: cross-validation folds that chose it; 0 where a class shows a single label, so that none could.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    folds: int


def fit_linear_probe(
    features: NDArray[np.float32], labels: NDArray[np.int64], strengths: list[float], folds: int, seed: int
) -> LinearProbe:
    """Fit logistic regression to frozen features of the visible images.

    Features are standardised; the strength with the best cross-validated accuracy within these images is used, and the
    smallest of those on a tie. With a single label in some class no fold can be made and the smallest strength, the
    strongest penalty, is used.

    Args:
        features: (N, D).
        labels: (N,) class numbers 0..C-1, each present.
        strengths: values to try for `C` of scikit-learn's LogisticRegression.
        folds: at most so many folds.
        seed: of the folds.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = min(folds, int(np.bincount(labels).min()))
    candidates = sorted(strengths)
    if folds >= 2 and len(candidates) > 1:
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(model, {"logisticregression__C": candidates}, cv=splits)
        model = search.fit(features.astype(np.float64), labels).best_estimator_
    else:
        folds = 0
        model = model.set_params(logisticregression__C=candidates[0]).fit(features.astype(np.float64), labels)
    scaler, regression = model.named_steps.values()
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    return LinearProbe(weight.astype(np.float32), bias.astype(np.float32), float(regression.C), folds)


def as_classifier(encoder: Encoder, probe: LinearProbe) -> Classifier:
    """The frozen encoder with the probe as its head, in evaluation mode."""
    model = Classifier(encoder, len(probe.bias)).to(next(encoder.parameters()).device)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(probe.weight))
        model.head.bias.copy_(torch.from_numpy(probe.bias))
    return model.eval()
