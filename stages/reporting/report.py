"""The write-up, one page: question, method, data, curves, representation, comparison, mistakes, cost, and what made it."""

from base64 import b64encode
from importlib.metadata import version
from platform import platform, python_version

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from stages.images.layout import ImageSet
from stages.images.views import ViewRecipe, draw_views
from stages.reporting.comparison import (
    CAVEAT,
    accuracy_table,
    draws_in_words,
    findings,
    labels_table,
    needs,
    pairs_table,
)
from stages.reporting.figures import components_figure, examples_figure, representation_figure, views_figure
from stages.reporting.pages import jpeg_url, render
from stages.reporting.records import METHODS, TITLES, describe

_SHOWN = 12
_VERSIONS = ("torch", "torchvision", "numpy", "scikit-learn", "scipy", "statsmodels", "pandas")


def report_page(
    images: ImageSet,
    predictions: dict[str, pd.DataFrame],
    rows: dict[str, dict],
    differences: pd.DataFrame,
    efficiency: pd.DataFrame,
    needed: pd.DataFrame,
    numbers: pd.DataFrame,
    costs: dict[str, dict],
    parameters: dict[str, object],
    pictures: dict[str, bytes],
) -> str:
    """The page as HTML.

    Args:
        images: whose test pictures are shown.
        predictions: method to its test predictions.
        rows: method to the content of `metrics/compare.json`.
        differences: see `paired_differences`.
        efficiency: see `efficiency_table`.
        needed: see `labels_needed`.
        numbers: what describes the representation, one row per checkpoint.
        costs: training to the content of `metrics/cost/<training>.json`.
        parameters: dotted name to value, of all that was declared.
        pictures: name to each figure as PNG.
    """
    return render(
        "report.html",
        labels=rows["semi_supervised"]["labels"],
        train_images=len(images.train),
        unlabeled_images=len(images.unlabeled),
        sampled=parameters["unlabeled.size"] or len(images.unlabeled),
        test_images=len(images.test),
        image_size=images.train.shape[1],
        classes=images.classes,
        source=images.source,
        headline=_headline(rows),
        findings=findings(differences),
        needs=needs(needed, efficiency),
        caveat=CAVEAT,
        draws=draws_in_words(efficiency),
        evolution=_evolution(numbers),
        tables={
            "accuracy": _html(accuracy_table(rows)),
            "pairs": _html(pairs_table(differences)),
            "labels": _html(labels_table(efficiency)),
            "cost": _html(_cost_table(costs)),
            "parameters": _html(_parameters_table(parameters)),
            "checksums": _html(pd.DataFrame(images.checksums.items(), columns=["file", "SHA-256"])),
            "versions": _html(_versions()),
        },
        pictures={name: f"data:image/png;base64,{b64encode(png).decode()}" for name, png in pictures.items()},
        galleries=galleries(images, predictions),
    )


def illustrations(
    images: ImageSet,
    embeddings: dict[int, NDArray[np.float32]],
    labels: NDArray[np.int64],
    numbers: pd.DataFrame,
    losses: pd.DataFrame,
    *,
    weak: ViewRecipe,
    strong: ViewRecipe,
    seed: int,
) -> dict[str, Figure]:
    """The figures that only the report has: example images, views of them, and the representation's evolution.

    Args:
        images: whose training and unlabelled images are shown.
        embeddings: epoch to (N, D) features of the same training images.
        labels: (N,) their class numbers.
        numbers, losses: see `representation_figure`.
        weak, strong: the views to show.
        seed: of the views.
    """
    pictures = torch.from_numpy(np.array(images.unlabeled[:6]))
    generator = torch.Generator().manual_seed(seed)
    columns = {"image": pictures.numpy()}
    for heading, recipe, count in (("strong view", strong, 3), ("weak view", weak, 2)):
        for number in range(count):
            views = draw_views(pictures, recipe, generator).clamp(0, 1)
            columns[f"{heading} {number + 1}"] = views.permute(0, 2, 3, 1).numpy()
    return {
        "examples": examples_figure(images.train, images.train_labels, images.classes),
        "views": views_figure(columns),
        "components": components_figure(embeddings, labels, images.classes),
        "representation": representation_figure(numbers, losses),
    }


def galleries(images: ImageSet, predictions: dict[str, pd.DataFrame]) -> list[dict]:
    """Test pictures worth looking at: wrong for all methods, gained and lost by semi-supervised over supervised.

    Returns:
        `title`, `total` and `pictures` of each, surest first, each with `url`, `actual` and what the methods `said`.
    """
    right = {method: (table["actual"] == table["predicted"]).to_numpy() for method, table in predictions.items()}
    confidence = predictions["semi_supervised"]["confidence"].to_numpy()
    choices = (
        ("All methods get these wrong", ~np.logical_or.reduce([right[method] for method in METHODS])),
        ("Semi-supervised is right where supervised is wrong", right["semi_supervised"] & ~right["supervised"]),
        ("Semi-supervised is wrong where supervised is right", right["supervised"] & ~right["semi_supervised"]),
    )
    found = []
    for title, mask in choices:
        chosen = np.flatnonzero(mask)
        surest = chosen[np.argsort(-confidence[chosen], kind="stable")][:_SHOWN]
        shown = [
            {
                "url": _picture_url(images.test[number]),
                "actual": predictions["semi_supervised"]["actual"][number],
                "said": {TITLES[method]: predictions[method]["predicted"][number] for method in METHODS},
            }
            for number in surest
        ]
        found.append({"title": title, "total": len(chosen), "pictures": shown})
    return found


def _picture_url(picture: NDArray[np.uint8]) -> str:
    return jpeg_url(Image.fromarray(picture).resize((96, 96), Image.Resampling.LANCZOS))


def _headline(rows: dict[str, dict]) -> str:
    parts = [f"{TITLES[method].lower()} {describe(row)}" for method, row in rows.items()]
    any_row = next(iter(rows.values()))
    return (
        f"With {any_row['labels']:,} visible labels, so many of {any_row['test_images']:,} test images are right (95 % interval): "
        f"{'; '.join(parts)}."
    )


def _evolution(numbers: pd.DataFrame) -> str:
    first, last = numbers.iloc[0], numbers.iloc[-1]
    if len(numbers) == 1:
        return (
            f"There is one checkpoint, of epoch {int(first['epoch'])}: the nearest neighbours of {first['knn_accuracy']:.1%} of these "
            "images vote for their class. With more checkpoints (pretrain.checkpoints) this section shows how that came about."
        )
    return (
        f"From random weights to epoch {int(last['epoch'])}, the share of these images whose nearest neighbours vote for their class "
        f"goes from {first['knn_accuracy']:.1%} to {last['knn_accuracy']:.1%}, and the effective rank of the features from "
        f"{first['effective_rank']:.1f} to {last['effective_rank']:.1f}."
    )


def _cost_table(costs: dict[str, dict]) -> pd.DataFrame:
    titles = TITLES | {"pretrain": "Barlow Twins pretraining"}
    return pd.DataFrame(
        {
            "training": [titles[training] for training in costs],
            "seconds": [f"{cost['seconds']:,.0f}" for cost in costs.values()],
            "images a second": [f"{cost['images_per_second']:,.0f}" for cost in costs.values()],
            "peak memory (MiB)": [f"{cost['peak_memory_mib']:,.0f}" for cost in costs.values()],
            "device": [cost["device"] + (", compiled" if cost.get("compiled") else "") for cost in costs.values()],
            "PyTorch": [cost["torch"] for cost in costs.values()],
        }
    )


def _parameters_table(parameters: dict[str, object]) -> pd.DataFrame:
    rows = [(name, "null" if value is None else str(value)) for name, value in parameters.items()]
    return pd.DataFrame(rows, columns=["parameter", "value"])


def _versions() -> pd.DataFrame:
    rows = [("Python", python_version()), ("system", platform()), *((name, version(name)) for name in _VERSIONS)]
    return pd.DataFrame(rows, columns=["what", "version"])


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, escape=True)
