"""Predictions of a finished classifier for the test images."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from stages.models.batches import to_device
from stages.models.encoders import Classifier
from stages.models.features import extract_features
from stages.pipeline.image_set import ImageSet


def predict(model: Classifier, images: ImageSet, size: int) -> pd.DataFrame:
    """Predict the class of every test image.

    Only finished classifiers may be passed, and nothing may be selected by the result: otherwise the test accuracy is
    biased.

    Args:
        model: Classifier on any device; its weights, statistics and mode stay as they are.
        images: Image set whose test images are read.
        size: Height and width of the views in pixels.

    Returns:
        One row per test image, in test order; see `predictions_table`. If images come from files, they are in the
        column `file`.
    """
    test_images = to_device(images.test, None, next(model.parameters()).device)
    table = predictions_table(extract_features(model, test_images, size), images.test_labels, images.classes)
    return table.assign(file=images.files["test"]) if images.files else table


def predictions_table(logits: NDArray[np.float32], actual: NDArray[np.int64], classes: tuple[str, ...]) -> pd.DataFrame:
    """Turn logits into a table of predictions.

    Args:
        logits: (N, C) logits.
        actual: (N,) class numbers.
        classes: Names of the C classes.

    Returns:
        One row per image: class names `actual` and `predicted`, and `confidence`, the softmax probability of the
        predicted class.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    names = np.array(classes, object)
    return pd.DataFrame(
        {
            "actual": names[actual],
            "predicted": names[probabilities.argmax(1)],
            "confidence": probabilities.max(1).round(6),
        }
    )
