"""Random features of a few classes."""

import numpy as np
from numpy.typing import NDArray


def random_features(
    classes: int = 3, n: int = 60, d: int = 12, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return (n, d) features whose dimensions differ in scale, around a centre for each class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = rng.normal(size=(n, d)) * np.arange(1, d + 1) + 3 * rng.normal(size=(classes, d))[labels]
    return features.astype(np.float32), labels
