"""A linear classifier on frozen features; its strength is chosen inside the visible labels alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from stages.images.views import ViewRecipe
from stages.learning.encoders import Classifier, Encoder
from stages.learning.representation import outputs, view_outputs


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
    features: NDArray[np.float32], labels: NDArray[np.int64], *, strengths: list[float], folds: int, seed: int
) -> LinearProbe:
    """Fit logistic regression to frozen features of the visible images.

    Features are standardised; the strength with the best cross-validated log-likelihood within these images is used: with few
    labels accuracy takes few values, and would tie. A fold holds out images with all their views, and is scored on plain views. With a single
    label in some class no fold can be made, and the smallest strength, the strongest penalty, is used.

    Args:
        features: (V, N, D) of V views of N images, the plain view first.
        labels: (N,) class numbers 0..C-1, each present.
        strengths: values to try for `C` of scikit-learn's LogisticRegression.
        folds: at most so many folds.
        seed: of the folds.
    """
    views, count, _ = features.shape
    inputs, targets = np.concatenate(features).astype(np.float64), np.tile(labels, views)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    folds = min(folds, int(np.bincount(labels).min()))
    candidates = sorted(strengths)
    if folds >= 2 and len(candidates) > 1:
        splits = [
            (np.concatenate([train + view * count for view in range(views)]), held_out)
            for train, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
        ]
        search = GridSearchCV(model, {"logisticregression__C": candidates}, scoring="neg_log_loss", cv=splits)
        model = search.fit(inputs, targets).best_estimator_
    else:
        folds = 0
        model = model.set_params(logisticregression__C=candidates[0]).fit(inputs, targets)
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


def train_probe(
    encoder: Encoder,
    images: Tensor,
    labels: Tensor,
    *,
    recipe: ViewRecipe,
    views: int,
    strengths: list[float],
    folds: int,
    seed: int,
) -> tuple[Classifier, LinearProbe]:
    """Fit a probe to a plain view and `views` random ones of each image, as linear evaluation is usually done.

    Args:
        encoder: frozen; the classifier holds this very one.
        images: (N, H, W, 3) uint8, those whose label is visible.
        labels: (N,) class numbers.
        recipe: how the random views are made; its size is that of the plain view too.
        views: random views of each image; may be 0.
        strengths, folds, seed: see `fit_linear_probe`.
    """
    encoder = encoder.to(images.device)
    features = outputs(encoder, images, recipe.size)[None]
    if views:
        features = np.concatenate([features, view_outputs(encoder, images, recipe, views, seed)])
    fitted = fit_linear_probe(features, labels.cpu().numpy(), strengths=strengths, folds=folds, seed=seed)
    return as_classifier(encoder, fitted), fitted
