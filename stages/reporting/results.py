"""What a stage that trains leaves in metrics/, plots/ and models/, and what it says of it."""

import pandas as pd

from stages.files import write_json
from stages.images.layout import ImageSet
from stages.learning.checkpoints import save_classifier
from stages.learning.encoders import Classifier
from stages.learning.evaluation import predict
from stages.learning.training import Trained
from stages.reporting.records import describe, score, write_csv


def record_training(stage: str, trained: Trained) -> None:
    """Write a training's curve, `plots/history/<stage>.csv`, and its cost, `metrics/cost/<stage>.json`."""
    write_csv(pd.DataFrame(trained.history).round(6), f"plots/history/{stage}.csv")
    write_json(f"metrics/cost/{stage}.json", trained.cost)


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


def collapse_warning(state: dict) -> str:
    """What to say of the result of `check_collapse`: nothing, or that all images look alike to the encoder."""
    if not state["collapsed"]:
        return ""
    return (
        f"; COLLAPSED: all images look alike to the encoder (effective rank {state['effective_rank']:.2f}), so nothing built on it "
        "means anything: lower the learning rate, or raise redundancy_weight or the batch size"
    )
