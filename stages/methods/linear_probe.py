"""A linear classifier on frozen features, whose penalty is chosen within the visible labels alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.images.views import ViewRecipe
from stages.models.batches import LabeledImages
from stages.models.encoders import Classifier, Encoder
from stages.models.features import extract_features, extract_view_features
from stages.pipeline.params import Probe


@dataclass(frozen=True)
class LinearProbe:
    """A fitted linear probe, whose logits are features @ weight.T + bias.

    Attributes:
        weight: (K, D) weights of K classes, into which the scaling of the features is folded.
        bias: (K,) biases.
        C: Inverse of the L2 penalty.
        folds: Number of cross-validation folds that chose it; 0 if every class has a single label, so that no fold
            could be made, or if there was nothing to choose.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    C: float
    folds: int


def fit_linear_probe(
    features: NDArray[np.float32], labels: NDArray[np.int64], candidates: list[float], folds: int, seed: int
) -> LinearProbe:
    """Fit logistic regression to frozen features of labelled images.

    Features are standardised. The penalty is the one with the best cross-validated log-likelihood within these
    images: with few labels, accuracy takes few values and would tie. A fold holds out images with all their views,
    and is scored on centre-cropped views. If every class has a single label no fold can be made, and the middle
    candidate is used.

    Args:
        features: (V, N, D) features of V views of N images, the centre-cropped view first.
        labels: (N,) class numbers 0..K-1, each present.
        candidates: Values to try for `C` of scikit-learn's LogisticRegression, the inverse of the penalty.
        folds: Largest number of folds; see `assign_folds`.
        seed: Random seed for the folds.
    """
    views, count, _ = features.shape
    inputs, targets = np.concatenate(features).astype(np.float64), np.tile(labels, views)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    assigned = assign_folds(labels, folds, seed)
    folds = int(assigned.max()) + 1
    candidates = sorted(candidates)

    # Choose the penalty by cross-validation, if some class has enough labels for it.
    if folds >= 2 and len(candidates) > 1:
        splits = [
            (np.concatenate([train + view * count for view in range(views)]), held_out)
            for train, held_out in PredefinedSplit(assigned).split()
        ]
        search = GridSearchCV(model, {"logisticregression__C": candidates}, scoring=_log_likelihood, cv=splits)
        model = search.fit(inputs, targets).best_estimator_
    else:
        folds = 0
        model = model.set_params(logisticregression__C=candidates[len(candidates) // 2]).fit(inputs, targets)

    # Scikit-learn has one row of weights for two classes; a classifier has one row for each.
    scaler, regression = model.named_steps.values()
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2

    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    return LinearProbe(weight.astype(np.float32), bias.astype(np.float32), float(regression.C), folds)


def assign_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Assign images to cross-validation folds, so that every class stays in the training part of every fold.

    The images of a class are dealt out in random order, the next class going on where the one before ended. So folds
    differ by one image at most, a class with fewer images than folds is in some of them only, and the single image of
    a class is in none.

    Args:
        labels: (N,) class numbers.
        folds: Largest number of folds, at least 2.
        seed: Random seed for the order.

    Returns:
        (N,) number of each image's fold, from 0; -1 for those that are never held out.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == number) for number in np.unique(labels)]
    dealt = [rng.permutation(images) for images in members if len(images) > 1]
    assigned = np.full(len(labels), -1)
    if dealt:
        order = np.concatenate(dealt)
        assigned[order] = np.arange(len(order)) % folds
    return assigned


def _log_likelihood(model: Pipeline, features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the mean log-likelihood of held-out labels, among which a class may be absent."""
    return -float(log_loss(labels, model.predict_proba(features), labels=model.classes_))


def as_classifier(encoder: Encoder, probe: LinearProbe) -> Classifier:
    """Return a classifier of the frozen encoder with the probe as its head, in evaluation mode."""
    model = Classifier(encoder, len(probe.bias)).to(next(encoder.parameters()).device)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(probe.weight))
        model.head.bias.copy_(torch.from_numpy(probe.bias))
    return model.eval()


def train_probe(
    encoder: Encoder, labeled: LabeledImages, recipe: ViewRecipe, settings: Probe, seed: int
) -> tuple[Classifier, LinearProbe]:
    """Fit a linear probe to the centre-cropped view and some random views of each image.

    Args:
        encoder: Frozen encoder; the classifier holds this very one.
        labeled: Images whose label is visible.
        recipe: Augmentation of the random views.
        settings: Number of random views, candidates for the penalty, and number of folds.
        seed: Random seed for the augmentation and the folds.

    Returns:
        The classifier in evaluation mode, and the fitted probe.
    """
    encoder = encoder.to(labeled.images.device)
    features = extract_features(encoder, labeled.images, recipe.size)[None]
    if settings.views:
        more = extract_view_features(encoder, labeled.images, recipe, settings.views, seed)
        features = np.concatenate([features, more])
    probe = fit_linear_probe(features, labeled.labels.cpu().numpy(), settings.C, settings.folds, seed)
    return as_classifier(encoder, probe), probe
