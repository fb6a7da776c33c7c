"""Classes for images without labels, from an array or from files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from stages.images.sources.listing import printable, read_chunks
from stages.models.batches import to_device
from stages.models.checkpoints import SavedClassifier
from stages.models.device import half_of_threads
from stages.models.features import extract_all, extract_features


def classify_images(classifier: SavedClassifier, images: NDArray[np.uint8], device: torch.device) -> pd.DataFrame:
    """Classify images that may be memory-mapped, a chunk at a time.

    Args:
        classifier: Classifier; its model is moved to the device.
        images: (N, H, W, 3) images.
        device: Device that the model runs on.

    Returns:
        One row per image; see `labels_table`.
    """
    model = classifier.model.to(device)
    return labels_table(extract_all(model, images, classifier.view_size, device, "predict"), classifier.classes)


def classify_files(
    classifier: SavedClassifier, files: Sequence[Path], device: torch.device
) -> tuple[pd.DataFrame, dict[Path, str]]:
    """Classify image files; files are decoded by all cores while the model runs.

    Args:
        classifier: Classifier; its model is moved to the device.
        files: Image files.
        device: Device that the model runs on.

    Returns:
        One row per image that can be read, with its `file` and the columns of `labels_table`; and why a file cannot be
        read, for each that cannot.
    """
    model = classifier.model.to(device)
    read, broken = list[Path](), dict[Path, str]()
    logits = [np.empty((0, len(classifier.classes)), np.float32)]
    with half_of_threads():
        for chunk in read_chunks(files, classifier.image_size, "predict"):
            broken |= chunk.broken
            readable = [number for number, file in enumerate(chunk.files) if file not in chunk.broken]
            if readable:
                read += [chunk.files[number] for number in readable]
                images = to_device(chunk.images, np.array(readable), device)
                logits.append(extract_features(model, images, classifier.view_size))
    table = labels_table(np.concatenate(logits), classifier.classes)
    table.insert(0, "file", [printable(str(file)) for file in read])
    return table, broken


def labels_table(logits: NDArray[np.float32], classes: tuple[str, ...]) -> pd.DataFrame:
    """Turn the logits of images without labels into a table.

    Args:
        logits: (N, C) logits of C classes, at least two.
        classes: Names of the C classes.

    Returns:
        One row per image: names of the most probable `class` and of the `runner_up`, and their softmax probabilities
        `confidence` and `runner_up_confidence`.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    names = np.array(classes, object)
    first, second = (-probabilities).argsort(axis=1, kind="stable")[:, :2].T
    rows = np.arange(len(logits))
    return pd.DataFrame(
        {
            "class": names[first],
            "confidence": probabilities[rows, first].round(6),
            "runner_up": names[second],
            "runner_up_confidence": probabilities[rows, second].round(6),
        }
    )
