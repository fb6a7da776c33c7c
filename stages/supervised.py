"""Train the baseline: a classifier from scratch on the visible labels alone."""

from pathlib import Path

from stages.command import run
from stages.files import read_array
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning.batches import pick_device, visible_images
from stages.learning.supervised import new_classifier, train_supervised
from stages.learning.training import machine
from stages.params import Declared
from stages.reporting.results import record_classifier, record_training


def main(params: Declared, scratch: Path) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label")
    model, trained = train_supervised(
        new_classifier(params.encoder.name, params.encoder.stem, len(images.classes), params.seed),
        *visible_images(images, labeled, pick_device()),
        section="supervised",
        views=ViewRecipe(params.views.size, **params.views.strong),
        seed=params.seed,
        scratch=scratch,
        **params.supervised,
    )
    record_training("supervised", trained)
    return record_classifier("supervised", model, images, len(labeled), params.views.size)


if __name__ == "__main__":
    run(main, __doc__, machine=machine)
