"""Fine-tune encoder and head, initialised from the linear probe, on the visible labels alone."""

from pathlib import Path

import numpy as np

from stages.evaluation.results import record_classifier
from stages.images.views import view_recipe
from stages.methods.supervised import train_supervised
from stages.models.batches import visible_images
from stages.models.checkpoints import load_classifier
from stages.models.device import machine_fingerprint, pick_device
from stages.pipeline.files import read_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.training.loop import record_training


def main(params: Params, scratch: Path) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label", np.int64)
    probe, _ = load_classifier("models/probe.safetensors")
    model, result = train_supervised(
        probe,
        visible_images(images, labeled, pick_device()),
        "fine_tune",
        view_recipe(params.views.size, params.views.strong),
        params.fine_tune,
        params.seed,
        scratch,
    )
    record_training("fine_tune", result)
    return record_classifier("fine_tune", model, images, len(labeled), params.views.size)


if __name__ == "__main__":
    run_stage(main, __doc__, fingerprint=machine_fingerprint)
