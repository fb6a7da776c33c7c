"""Train on labelled and unlabelled images at once, from the linear probe."""

from pathlib import Path

from stages.command import run
from stages.files import read_array
from stages.images.layout import open_images
from stages.images.subsets import unlabeled_pool
from stages.images.views import ViewRecipe
from stages.learning.batches import Pictures, pick_device, visible_images
from stages.learning.checkpoints import load_classifier, load_projector
from stages.learning.representation import LOOKED_AT, check_collapse
from stages.learning.semi_supervised import train_semi_supervised
from stages.learning.training import machine
from stages.params import Declared
from stages.reporting.results import collapse_warning, record_classifier, record_training


def main(params: Declared, scratch: Path) -> str:
    images, device = open_images(), pick_device()
    labeled, sample = read_array("data/labeled.npy", "label"), read_array("data/unlabeled.npy", "sample")
    pool = Pictures(unlabeled_pool(images.unlabeled, sample, images.train, labeled), device)
    probe, _ = load_classifier("models/probe.safetensors")
    model, trained = train_semi_supervised(
        probe,
        load_projector("models/pretrain/projector.safetensors"),
        *visible_images(images, labeled, device),
        pool,
        weak=ViewRecipe(params.views.size, **params.views.weak),
        strong=ViewRecipe(params.views.size, **params.views.strong),
        redundancy_weight=params.pretrain.redundancy_weight,
        seed=params.seed,
        scratch=scratch,
        **params.semi_supervised,
    )
    record_training("semi_supervised", trained)
    state = check_collapse(model.encoder, pool.first(LOOKED_AT), params.views.size)
    line = record_classifier("semi_supervised", model, images, len(labeled), params.views.size, **state)
    return line + collapse_warning(state)


if __name__ == "__main__":
    run(main, __doc__, machine=machine)
