"""Train on from the linear probe, encoder and head, on the visible labels alone."""

from pathlib import Path

from stages.command import run
from stages.files import read_array
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning.batches import pick_device, visible_images
from stages.learning.checkpoints import load_classifier
from stages.learning.supervised import train_supervised
from stages.learning.training import machine
from stages.params import Declared
from stages.reporting.results import record_classifier, record_training


def main(params: Declared, scratch: Path) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label")
    probe, _ = load_classifier("models/probe.safetensors")
    model, trained = train_supervised(
        probe,
        *visible_images(images, labeled, pick_device()),
        section="fine_tune",
        views=ViewRecipe(params.views.size, **params.views.strong),
        seed=params.seed,
        scratch=scratch,
        **params.fine_tune,
    )
    record_training("fine_tune", trained)
    return record_classifier("fine_tune", model, images, len(labeled), params.views.size)


if __name__ == "__main__":
    run(main, __doc__, machine=machine)
