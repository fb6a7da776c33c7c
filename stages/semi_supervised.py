"""Train on labelled and unlabelled images at once, from the pretrained encoder."""

import torch

from stages.command import run
from stages.files import read_array
from stages.images.layout import open_images
from stages.images.subsets import unlabeled_pool
from stages.images.views import ViewRecipe
from stages.learning.checkpoints import epoch_checkpoints, load_encoder, load_projector, save_classifier
from stages.learning.evaluation import predict
from stages.learning.semi_supervised import train_semi_supervised
from stages.learning.training import on_device, pick_device
from stages.params import Declared
from stages.reporting.records import record_predictions, record_training


def main(params: Declared) -> str:
    images, device = open_images(), pick_device()
    labeled, sample = read_array("data/labeled.npy", "label"), read_array("data/unlabeled.npy", "sample")
    model, trained = train_semi_supervised(
        on_device(images.train, labeled, device),
        torch.from_numpy(images.train_labels[labeled]).to(device),
        torch.from_numpy(unlabeled_pool(images.unlabeled, sample, images.train, labeled)).to(device),
        len(images.classes),
        encoder=load_encoder(epoch_checkpoints("models/pretrain")[-1][1]),
        projector=load_projector("models/pretrain/projector.safetensors"),
        weak=ViewRecipe(params.views.size, **params.views.weak),
        strong=ViewRecipe(params.views.size, **params.views.strong),
        redundancy_weight=params.pretrain.redundancy_weight,
        seed=params.seed,
        **params.semi_supervised,
    )
    save_classifier(model, images.classes, "models/semi_supervised.safetensors")
    record_training("semi_supervised", trained)
    return record_predictions("semi_supervised", predict(model, images, params.views.size, device), len(labeled))


if __name__ == "__main__":
    run(main, __doc__)
