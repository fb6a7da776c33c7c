"""The report on one page: from the question and the methods to the comparison, its cost and how to reproduce it."""

from base64 import b64encode
from importlib.metadata import version
from platform import platform, python_version
from typing import TypedDict

import numpy as np
import pandas as pd
from PIL import Image

from stages.evaluation.accuracy import METHODS, correct, describe, format_interval
from stages.pipeline.image_set import ImageSet
from stages.pipeline.params import Leaf
from stages.reporting.comparison import (
    CAVEAT,
    ONE_RUN,
    Results,
    accuracy_table,
    difference_sentences,
    efficiency_phrase,
    labels_sentence,
    labels_table,
    pairs_table,
    runs_pairs_table,
    runs_phrase,
    runs_table,
    shown_efficiency,
    whole_seconds,
)
from stages.reporting.pages import jpeg_url, render
from stages.reporting.records import TITLES, TRAINING_TITLES, DataSummary, StudyCost, TrainingCost

_GALLERY_IMAGES, _GALLERY_PIXELS = 12, 96
_MOST_ROWS = 30
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "scipy", "statsmodels", "pandas")


class GalleryImage(TypedDict):
    """One test image of a gallery.

    Attributes:
        url: The image as a data URL.
        actual: Name of its class.
        predicted: Class that each method predicts, by the title of the method.
        file: File of the image; empty if it comes from none.
    """

    url: str
    actual: str
    predicted: dict[str, str]
    file: str


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


def report_page(results: Results, images: ImageSet, figures: dict[str, bytes], parameters: dict[str, Leaf]) -> str:
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
        "labels": labels_table(shown_efficiency(results)),
        "cost": _cost_table(results.costs),
        "whole_cost": _whole_cost_table(whole_seconds(results)),
        "study_cost": _study_cost_table(results.study_costs),
        "parameters": _parameters_table(parameters),
        "classes": _classes_table(results.data),
        "copies": _copies_table(results.copies),
        "checksums": pd.DataFrame(images.checksums.items(), columns=["file", "SHA-256"]),
        "versions": _versions_table(),
    }
    if results.runs is not None:
        tables |= {"runs": runs_table(results.runs), "runs_pairs": runs_pairs_table(results.runs.differences)}

    return render(
        "report.html",
        labels=results.scores["semi_supervised"]["labels"],
        data=results.data,
        shown_rows=_MOST_ROWS,
        weights=parameters["encoder.weights"],
        unlabeled_used=parameters["unlabeled.size"] or len(images.unlabeled),
        image_size=images.train.shape[1],
        classes=images.classes,
        source=images.source,
        seed=results.seed,
        headline=_headline(results),
        runs_phrase=runs_phrase(results.runs) if results.runs else ONE_RUN.replace("`", ""),
        difference_sentences=difference_sentences(results.runs.differences) if results.runs else [],
        labels_sentence=labels_sentence(results.runs) if results.runs else "",
        warnings=[sentence.replace("`", "") for sentence in results.warnings],
        caveat=CAVEAT,
        efficiency=efficiency_phrase(results),
        initialised_at_random=results.from_random,
        rank_images=int(results.representation["rank_images"].iloc[-1]),
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
        gallery_images = [_gallery_image(images, int(number), predictions) for number in shown]
        found.append({"title": title, "total": len(numbers), "images": gallery_images})
    return found


def _gallery_image(images: ImageSet, number: int, predictions: dict[str, pd.DataFrame]) -> GalleryImage:
    resized = Image.fromarray(images.test[number]).resize((_GALLERY_PIXELS, _GALLERY_PIXELS), Image.Resampling.LANCZOS)
    return {
        "url": jpeg_url(resized),
        "actual": str(predictions["semi_supervised"]["actual"][number]),
        "predicted": {TITLES[method]: str(predictions[method]["predicted"][number]) for method in METHODS},
        "file": images.files["test"][number] if images.files else "",
    }


def _headline(results: Results) -> str:
    labels = next(iter(results.scores.values()))["labels"]
    if results.runs is None:
        what = f"Test accuracy of one run with {labels:,} labels (95 % CI over test images)"
        texts = {method: describe(score) for method, score in results.scores.items()}
    else:
        what = f"Mean test accuracy of {len(results.runs.seeds)} whole pipelines with {labels:,} labels (95 % CI)"
        summaries = results.runs.accuracy.items()
        texts = {method: format_interval(s["mean"], s["low"], s["high"]) for method, s in summaries}
    return f"{what}: {'; '.join(f'{TITLES[method].lower()} {text}' for method, text in texts.items())}."


def _evolution(representation: pd.DataFrame) -> str:
    first, last = representation.iloc[0], representation.iloc[-1]
    if len(representation) == 1:
        return (
            f"There is a single checkpoint, of epoch {first['epoch']:.0f}, with a k-NN accuracy of "
            f"{first['knn_accuracy']:.1%}. Keep more (pretrain.checkpoints) to see the evolution here."
        )
    return (
        f"From before pretraining to epoch {last['epoch']:.0f}, the k-NN accuracy changes from "
        f"{first['knn_accuracy']:.1%} to {last['knn_accuracy']:.1%}, and the effective rank of the features around "
        f"their mean from {first['centered_rank']:.1f} to {last['centered_rank']:.1f}."
    )


def _classes_table(data: DataSummary) -> pd.DataFrame:
    classes = data["classes"]
    rows = [(name, f"{counts['train']:,}", f"{counts['test']:,}") for name, counts in classes.items()][:_MOST_ROWS]
    return pd.DataFrame(rows, columns=["class", "training images", "test images"])


def _copies_table(copies: pd.DataFrame) -> pd.DataFrame:
    shown = copies.head(_MOST_ROWS)
    among = (shown["split"] + ", " + shown["class"]).str.removesuffix(", ")
    original = (shown["copy_of_split"] + ", " + shown["copy_of_class"]).str.removesuffix(", ")
    kind = shown["kind"] + shown["left_out"].map({"True": ", left out", "False": ""})
    return pd.DataFrame(
        {"image": shown["file"], "among": among, "copy of": shown["copy_of"], "which is": original, "kind": kind}
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


def _whole_cost_table(seconds: dict[str, float]) -> pd.DataFrame:
    rows = [(TITLES[method], f"{value:,.0f}") for method, value in seconds.items()]
    return pd.DataFrame(rows, columns=["method", "seconds, pretraining included"])


def _study_cost_table(costs: dict[float, StudyCost]) -> pd.DataFrame:
    rows = []
    for ratio, cost in sorted(costs.items()):
        seconds = {TRAINING_TITLES[name]: f"{value:,.0f}" for name, value in cost["seconds"].items()}
        rows.append({"label ratio": f"{ratio:g}", "draws": cost["seeds"], **seconds})
    return pd.DataFrame(rows)


def _parameters_table(parameters: dict[str, Leaf]) -> pd.DataFrame:
    rows = [(name, "null" if value is None else str(value)) for name, value in parameters.items()]
    return pd.DataFrame(rows, columns=["parameter", "value"])


def _versions_table() -> pd.DataFrame:
    rows = [("Python", python_version()), ("system", platform()), *((name, version(name)) for name in _PACKAGES)]
    return pd.DataFrame(rows, columns=["software", "version"])
