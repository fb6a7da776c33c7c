"""The report on one page: from the question and the methods to the comparison, its cost and how to reproduce it."""

from base64 import b64encode
from importlib.metadata import version
from platform import platform, python_version
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from stages.evaluation.accuracy import correct, describe
from stages.evaluation.statistics import MethodScore
from stages.pipeline.image_set import ImageSet
from stages.reporting.comparison import (
    CAVEAT,
    Results,
    accuracy_table,
    difference_sentences,
    draws_phrase,
    labels_sentences,
    labels_table,
    pairs_table,
)
from stages.reporting.pages import jpeg_url, render
from stages.reporting.records import METHODS, TITLES, TRAINING_TITLES, TrainingCost

_GALLERY_IMAGES, _GALLERY_PIXELS = 12, 96
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "scipy", "statsmodels", "pandas")


class GalleryImage(TypedDict):
    """One test image of a gallery.

    Attributes:
        url: The image as a data URL.
        actual: Name of its class.
        predicted: Class that each method predicts, by the title of the method.
    """

    url: str
    actual: str
    predicted: dict[str, str]


class Gallery(TypedDict):
    """Test images that have something in common.

    Attributes:
        title: What they have in common.
        total: Number of such test images.
        images: Those that are shown.
    """

    title: str
    total: int
    images: list[GalleryImage]


def report_page(results: Results, images: ImageSet, figures: dict[str, bytes], parameters: dict[str, object]) -> str:
    """Return the report as HTML that needs no other file.

    Args:
        results: Everything that the comparison is about.
        images: Image set, of which some test images are shown.
        figures: PNG of each figure that the template names.
        parameters: Value of each declared parameter by dotted name.
    """
    tables = {
        "accuracy": accuracy_table(results.scores),
        "pairs": pairs_table(results.differences),
        "labels": labels_table(results.efficiency),
        "cost": _cost_table(results.costs),
        "parameters": _parameters_table(parameters),
        "checksums": pd.DataFrame(images.checksums.items(), columns=["file", "SHA-256"]),
        "versions": _versions_table(),
    }

    return render(
        "report.html",
        labels=results.scores["semi_supervised"]["labels"],
        train_images=len(images.train),
        unlabeled_images=len(images.unlabeled),
        unlabeled_used=parameters["unlabeled.size"] or len(images.unlabeled),
        test_images=len(images.test),
        image_size=images.train.shape[1],
        classes=images.classes,
        source=images.source,
        headline=_headline(results.scores),
        difference_sentences=difference_sentences(results.differences),
        labels_sentences=labels_sentences(results.labels_needed, results.efficiency),
        caveat=CAVEAT,
        draws=draws_phrase(results.efficiency),
        evolution=_evolution(results.representation),
        tables={name: table.to_html(index=False, border=0, escape=True) for name, table in tables.items()},
        figures={name: f"data:image/png;base64,{b64encode(png).decode()}" for name, png in figures.items()},
        galleries=galleries(images, results.predictions),
    )


def galleries(images: ImageSet, predictions: dict[str, pd.DataFrame]) -> list[Gallery]:
    """Select test images to look at: errors of all methods, and gains and losses of semi-supervised over supervised.

    Args:
        images: Image set whose test images are shown.
        predictions: Test predictions of each method.

    Returns:
        Three galleries; each shows its images with the highest confidence of the semi-supervised classifier, highest
        first.
    """
    hits = {method: correct(table) for method, table in predictions.items()}
    selections = (
        ("Misclassified by all methods", ~np.logical_or.reduce([hits[method] for method in METHODS])),
        ("Correct with semi-supervised, wrong with supervised", hits["semi_supervised"] & ~hits["supervised"]),
        ("Wrong with semi-supervised, correct with supervised", hits["supervised"] & ~hits["semi_supervised"]),
    )
    confidence = predictions["semi_supervised"]["confidence"].to_numpy()
    found: list[Gallery] = []
    for title, selected in selections:
        numbers = np.flatnonzero(selected)
        shown = numbers[np.argsort(-confidence[numbers], kind="stable")][:_GALLERY_IMAGES]
        gallery_images = [_gallery_image(images.test[number], int(number), predictions) for number in shown]
        found.append({"title": title, "total": len(numbers), "images": gallery_images})
    return found


def _gallery_image(image: NDArray[np.uint8], number: int, predictions: dict[str, pd.DataFrame]) -> GalleryImage:
    resized = Image.fromarray(image).resize((_GALLERY_PIXELS, _GALLERY_PIXELS), Image.Resampling.LANCZOS)
    return {
        "url": jpeg_url(resized),
        "actual": str(predictions["semi_supervised"]["actual"][number]),
        "predicted": {TITLES[method]: str(predictions[method]["predicted"][number]) for method in METHODS},
    }


def _headline(scores: dict[str, MethodScore]) -> str:
    accuracies = [f"{TITLES[method].lower()} {describe(score)}" for method, score in scores.items()]
    any_score = next(iter(scores.values()))
    return f"Test accuracy with {any_score['labels']:,} labels (95 % CI): {'; '.join(accuracies)}."


def _evolution(representation: pd.DataFrame) -> str:
    first, last = representation.iloc[0], representation.iloc[-1]
    if len(representation) == 1:
        return (
            f"There is a single checkpoint, of epoch {first['epoch']:.0f}, with a k-NN accuracy of "
            f"{first['knn_accuracy']:.1%}. Keep more (pretrain.checkpoints) to see the evolution here."
        )
    return (
        f"From random weights to epoch {last['epoch']:.0f}, the k-NN accuracy changes from {first['knn_accuracy']:.1%} "
        f"to {last['knn_accuracy']:.1%}, and the effective rank of the features from {first['effective_rank']:.1f} to "
        f"{last['effective_rank']:.1f}."
    )


def _cost_table(costs: dict[str, TrainingCost]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "training run": [TRAINING_TITLES[stage] for stage in costs],
            "seconds": [f"{cost['seconds']:,.0f}" for cost in costs.values()],
            "images/s": [f"{cost['images_per_second']:,.0f}" for cost in costs.values()],
            "peak memory (MiB)": [f"{cost['peak_memory_mib']:,.0f}" for cost in costs.values()],
            "device": [cost["device"] + (", compiled" if cost.get("compiled") else "") for cost in costs.values()],
            "PyTorch": [cost["torch"] for cost in costs.values()],
        }
    )


def _parameters_table(parameters: dict[str, object]) -> pd.DataFrame:
    rows = [(name, "null" if value is None else str(value)) for name, value in parameters.items()]
    return pd.DataFrame(rows, columns=["parameter", "value"])


def _versions_table() -> pd.DataFrame:
    rows = [("Python", python_version()), ("system", platform()), *((name, version(name)) for name in _PACKAGES)]
    return pd.DataFrame(rows, columns=["software", "version"])
