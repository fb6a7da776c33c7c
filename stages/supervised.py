"""Train the baseline: a classifier on the visible labels alone."""

from pathlib import Path

import numpy as np

from stages.evaluation.results import record_classifier
from stages.evaluation.warnings import early_stop_sentence, with_warning
from stages.images.views import view_recipe
from stages.methods.supervised import train_supervised
from stages.models.batches import visible_images
from stages.models.device import machine_fingerprint, pick_device
from stages.models.encoders import build_classifier
from stages.pipeline.files import read_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed
from stages.training.loop import record_training


def main(params: Params, scratch: Path) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label", np.int64)
    encoder, weights_seed = params.encoder, derive_seed(params.seed, "supervised weights")
    model, result = train_supervised(
        build_classifier(encoder.name, encoder.stem, len(images.classes), weights_seed, encoder.weights),
        visible_images(images, labeled, pick_device()),
        "supervised",
        view_recipe(params.views.size, params.views.strong),
        params.supervised,
        derive_seed(params.seed, "supervised"),
        scratch,
    )
    record_training("supervised", result)
    line = record_classifier("supervised", model, images, len(labeled), params.views.size)
    return with_warning(line, early_stop_sentence("supervised", result.curve, len(images.classes)))


if __name__ == "__main__":
    run_stage(main, __doc__, fingerprint=machine_fingerprint)
