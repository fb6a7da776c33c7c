"""Final evaluation on the test images: predictions, accuracy."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from stages.images.layout import ImageSet
from stages.learning.batches import on_device
from stages.learning.encoders import Classifier
from stages.learning.representation import outputs


def predict(model: Classifier, images: ImageSet, size: int) -> pd.DataFrame:
    """Predictions of a finished classifier for every test image, in test order; see `predictions`.

    Nothing may be chosen by what this returns: beside it test images are only shown, in the report.

    Args:
        model: on any device.
        images: whose test images are read.
        size: height and width of the views.
    """
    logits = outputs(model, on_device(images.test, None, next(model.parameters()).device), size)
    return predictions(logits, images.test_labels, images.classes)


def predictions(logits: NDArray[np.float32], actual: NDArray[np.int64], classes: tuple[str, ...]) -> pd.DataFrame:
    """One row per test image: `actual` and `predicted` class names, and the `confidence` in the prediction.

    Args:
        logits: (N, C).
        actual: (N,) class numbers.
        classes: C names.
    """
    shares = softmax(logits.astype(np.float64), axis=1)
    names = np.array(classes, object)
    return pd.DataFrame(
        {"actual": names[actual], "predicted": names[shares.argmax(1)], "confidence": shares.max(1).round(6)}
    )


def accuracy(model: Classifier, images: ImageSet, size: int) -> float:
    """Top-1 accuracy of a finished classifier on the test images; see `predict`."""
    predicted = predict(model, images, size)
    return float((predicted["actual"] == predicted["predicted"]).mean())
