"""Train on labelled and unlabelled images at once, initialised from the linear probe."""

from pathlib import Path

import numpy as np

from stages.evaluation.collapse import RANK_IMAGES, check_collapse, collapse_warning
from stages.evaluation.results import record_classifier
from stages.evaluation.warnings import early_stop_sentence, with_warning
from stages.images.subsets import unlabeled_pool
from stages.methods.semi_supervised import train_semi_supervised
from stages.models.batches import ImagePool, visible_images
from stages.models.checkpoints import load_classifier, load_projector
from stages.models.device import machine_fingerprint, pick_device
from stages.pipeline.files import read_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed
from stages.training.loop import record_training


def main(params: Params, scratch: Path) -> str:
    images, device = open_images(), pick_device()
    labeled = read_array("data/labeled.npy", "label", np.int64)
    sample = read_array("data/unlabeled.npy", "sample", np.int64)
    pool = ImagePool(unlabeled_pool(images.unlabeled, sample, images.train, labeled), device)
    model, result = train_semi_supervised(
        load_classifier("models/probe.safetensors").model,
        load_projector("models/pretrain/projector.safetensors"),
        visible_images(images, labeled, device),
        pool,
        params.views,
        params.semi_supervised,
        params.pretrain.redundancy_weight,
        derive_seed(params.seed, "semi_supervised"),
        scratch,
    )
    record_training("semi_supervised", result)
    collapse = check_collapse(model.encoder, pool.spread(RANK_IMAGES), params.views.size)
    line = record_classifier("semi_supervised", model, images, len(labeled), params.views.size, collapse)
    weight = params.semi_supervised.cross_entropy_weight
    early_stop = early_stop_sentence("semi_supervised", result.curve, len(images.classes), weight)
    return with_warning(line + collapse_warning(collapse), early_stop)


if __name__ == "__main__":
    run_stage(main, __doc__, fingerprint=machine_fingerprint)
