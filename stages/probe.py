"""Fit a linear classifier to the frozen features of the visible images."""

from stages.command import run
from stages.files import read_array
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning.batches import pick_device, visible_images
from stages.learning.checkpoints import epoch_checkpoints, load_encoder
from stages.learning.linear_probe import train_probe
from stages.params import Declared
from stages.reporting.results import record_classifier


def main(params: Declared) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label")
    model, fitted = train_probe(
        load_encoder(epoch_checkpoints("models/pretrain")[-1][1]),
        *visible_images(images, labeled, pick_device()),
        recipe=ViewRecipe(params.views.size, **params.views.weak),
        seed=params.seed,
        **params.probe,
    )
    return record_classifier(
        "probe", model, images, len(labeled), params.views.size, strength=fitted.strength, folds=fitted.folds
    )


if __name__ == "__main__":
    run(main, __doc__)
