"""Fit a linear classifier to the frozen features of the visible images."""

from stages.command import run
from stages.files import read_array
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning.checkpoints import epoch_checkpoints, load_encoder, save_classifier
from stages.learning.evaluation import predict
from stages.learning.linear_probe import train_probe
from stages.learning.training import on_device, pick_device
from stages.params import Declared
from stages.reporting.records import record_predictions


def main(params: Declared) -> str:
    images, labeled, device = open_images(), read_array("data/labeled.npy", "label"), pick_device()
    encoder = load_encoder(epoch_checkpoints("models/pretrain")[-1][1]).to(device)
    model, fitted = train_probe(
        encoder,
        on_device(images.train, labeled, device),
        images.train_labels[labeled],
        recipe=ViewRecipe(params.views.size, **params.views.weak),
        seed=params.seed,
        **params.probe,
    )
    save_classifier(model, images.classes, "models/probe.safetensors")
    return record_predictions(
        "probe",
        predict(model, images, params.views.size, device),
        len(labeled),
        strength=fitted.strength,
        folds=fitted.folds,
    )


if __name__ == "__main__":
    run(main, __doc__)
