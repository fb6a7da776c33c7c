"""Train the baseline: a classifier from scratch on the visible labels alone."""

import torch

from stages.command import run
from stages.files import read_array
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning.checkpoints import save_classifier
from stages.learning.evaluation import predict
from stages.learning.supervised import train_supervised
from stages.learning.training import on_device, pick_device
from stages.params import Declared
from stages.reporting.records import record_predictions, record_training


def main(params: Declared) -> str:
    images, labeled, device = open_images(), read_array("data/labeled.npy", "label"), pick_device()
    model, trained = train_supervised(
        on_device(images.train, labeled, device),
        torch.from_numpy(images.train_labels[labeled]).to(device),
        len(images.classes),
        encoder=params.encoder.name,
        stem=params.encoder.stem,
        views=ViewRecipe(params.views.size, **params.views.strong),
        seed=params.seed,
        **params.supervised,
    )
    save_classifier(model, images.classes, "models/supervised.safetensors")
    record_training("supervised", trained)
    return record_predictions("supervised", predict(model, images, params.views.size, device), len(labeled))


if __name__ == "__main__":
    run(main, __doc__)
