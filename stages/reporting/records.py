"""Small results on disk: metrics as JSON, curves and predictions as CSV."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.files import replacing, require, write_json
from stages.images.layout import ImageSet
from stages.learning.checkpoints import save_classifier
from stages.learning.encoders import Classifier
from stages.learning.evaluation import predict, wilson
from stages.learning.training import Trained

TITLES = {
    "supervised": "Supervised",
    "probe": "Linear probe",
    "fine_tune": "Fine-tuned",
    "semi_supervised": "Semi-supervised",
}
METHODS = tuple(TITLES)
_FORMULAE = ("=", "+", "-", "@", "\t", "\r")


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table without its index, whole or not at all.

    A text that a spreadsheet would run as a formula gets an apostrophe before it, which spreadsheets take for a sign of plain text.
    """
    texts = table.select_dtypes(exclude="number").columns
    guarded = table.assign(**{name: table[name].map(_guarded) for name in texts})
    with replacing(path) as aside:
        guarded.to_csv(aside, index=False, lineterminator="\n")


def _guarded(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith((*_FORMULAE, "'")) else cell


def record_training(stage: str, trained: Trained) -> None:
    """Write a training's curve, `plots/history/<stage>.csv`, and its cost, `metrics/cost/<stage>.json`."""
    write_csv(pd.DataFrame(trained.history).round(6), f"plots/history/{stage}.csv")
    write_json(f"metrics/cost/{stage}.json", trained.cost)


def score(predicted: pd.DataFrame, labels: int) -> dict[str, object]:
    """Accuracy of test predictions with its 95 % interval, and on how many images of each kind it rests."""
    right = int((predicted["actual"] == predicted["predicted"]).sum())
    return {
        "accuracy": round(right / len(predicted), 6),
        "ci95": [round(end, 6) for end in wilson(right, len(predicted))],
        "labels": labels,
        "test_images": len(predicted),
    }


def record_classifier(method: str, model: Classifier, images: ImageSet, labels: int, size: int, **more: object) -> str:
    """Evaluate a finished classifier on the test images; write its weights, predictions and metrics.

    These are `models/<method>.safetensors`, `plots/predictions/<method>.csv` and `metrics/<method>.json`.

    Args:
        method: one of METHODS.
        model: on the device where it was trained.
        images: whose test images are read.
        labels: how many were visible.
        size: height and width of the views.
        more: further metrics.

    Returns:
        the line of result.
    """
    save_classifier(model, images.classes, f"models/{method}.safetensors")
    predicted = predict(model, images, size)
    metrics = score(predicted, labels)
    write_csv(predicted, f"plots/predictions/{method}.csv")
    write_json(f"metrics/{method}.json", metrics | more)
    return f"{describe(metrics)} of {metrics['test_images']:,} test images right, with {labels:,} labels"


def describe(metrics: dict) -> str:
    """An accuracy and its interval in words."""
    low, high = metrics["ci95"]
    return f"{metrics['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def collapse_warning(state: dict) -> str:
    """What to say of the result of `check_collapse`: nothing, or that all images look alike to the encoder."""
    if not state["collapsed"]:
        return ""
    return (
        f"; COLLAPSED: all images look alike to the encoder (effective rank {state['effective_rank']:.2f}), so nothing built on it "
        "means anything: lower the learning rate, or raise redundancy_weight or the batch size"
    )


def read_predictions(method: str) -> pd.DataFrame:
    """The test predictions that the stage `method` wrote."""
    table = pd.read_csv(
        require(f"plots/predictions/{method}.csv", method),
        dtype={"actual": str, "predicted": str},
        keep_default_na=False,
    )
    names = ["actual", "predicted"]
    return table.assign(**{column: table[column].str.removeprefix("'") for column in names})


def read_history(stage: str) -> pd.DataFrame:
    """The training curve that `stage` wrote."""
    return pd.read_csv(require(f"plots/history/{stage}.csv", stage))


def layouts_table(
    layouts: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> pd.DataFrame:
    """Every point of every layout: columns `epoch`, `image`, `x`, `y`, `label`."""
    names = np.array(classes, object)[labels]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "epoch": epoch,
                    "image": np.arange(len(names)),
                    "x": layout[:, 0].round(4),
                    "y": layout[:, 1].round(4),
                    "label": names,
                }
            )
            for epoch, layout in layouts.items()
        ]
    )
