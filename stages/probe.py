"""Fit a linear classifier to the frozen features of the labelled images."""

import numpy as np

from stages.evaluation.results import record_classifier
from stages.images.views import view_recipe
from stages.methods.linear_probe import train_probe
from stages.models.batches import visible_images
from stages.models.checkpoints import epoch_checkpoints, load_encoder
from stages.models.device import pick_device
from stages.pipeline.files import read_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed


def main(params: Params) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label", np.int64)
    _, last_checkpoint = epoch_checkpoints("models/pretrain")[-1]
    model, probe = train_probe(
        load_encoder(last_checkpoint),
        visible_images(images, labeled, pick_device()),
        view_recipe(params.views.size, params.views.weak),
        params.probe,
        derive_seed(params.seed, "probe"),
    )
    size = params.views.size
    return record_classifier("probe", model, images, len(labeled), size, {"best_C": probe.C, "used_folds": probe.folds})


if __name__ == "__main__":
    run_stage(main, __doc__)
