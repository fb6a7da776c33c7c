"""Fine-tune encoder and head, initialised from the linear probe, on the visible labels alone."""

from pathlib import Path

import numpy as np

from stages.evaluation.results import record_classifier
from stages.evaluation.warnings import early_stop_sentence, with_warning
from stages.images.views import view_recipe
from stages.methods.supervised import train_supervised
from stages.models.batches import visible_images
from stages.models.checkpoints import load_classifier
from stages.models.device import machine_fingerprint, pick_device
from stages.pipeline.files import read_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed
from stages.training.loop import record_training


def main(params: Params, scratch: Path) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label", np.int64)
    model, result = train_supervised(
        load_classifier("models/probe.safetensors").model,
        visible_images(images, labeled, pick_device()),
        "fine_tune",
        view_recipe(params.views.size, params.views.strong),
        params.fine_tune,
        derive_seed(params.seed, "fine_tune"),
        scratch,
    )
    record_training("fine_tune", result)
    line = record_classifier("fine_tune", model, images, len(labeled), params.views.size)
    return with_warning(line, early_stop_sentence("fine_tune", result.curve, len(images.classes)))


if __name__ == "__main__":
    run_stage(main, __doc__, fingerprint=machine_fingerprint)
