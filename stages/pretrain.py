"""Pretrain an encoder on the unlabelled sample by Barlow Twins, and keep it from random weights to the last epoch."""

import shutil
from pathlib import Path

import numpy as np
from torch import nn

from stages.command import run
from stages.files import read_array, replacing, write_array, write_json
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning.barlow_twins import pretrain, shown_correlation
from stages.learning.checkpoints import save_encoder, save_projector
from stages.learning.encoders import Encoder
from stages.learning.representation import check_collapse
from stages.learning.schedules import checkpoint_epochs
from stages.learning.training import machine, on_device, pick_device
from stages.params import Declared
from stages.reporting.records import collapse_warning, record_training


def main(params: Declared, scratch: Path) -> str:
    images, sample = open_images(), read_array("data/unlabeled.npy", "sample")
    pictures = on_device(images.unlabeled, sample, pick_device())
    views = ViewRecipe(params.views.size, **params.views.strong)
    settings = dict(**params.pretrain)
    kept = checkpoint_epochs(settings["epochs"], settings.pop("checkpoints"))
    weights, correlations = scratch / "weights", scratch / "correlations"

    def keep(epoch: int, encoder: Encoder, projector: nn.Sequential) -> None:
        if epoch in kept:
            save_encoder(encoder, weights / f"{epoch}.safetensors")
            shown = shown_correlation(encoder, projector, pictures, views, params.seed)
            write_array(correlations / f"{epoch}.npy", shown)

    encoder, projector, trained = pretrain(
        pictures,
        encoder=params.encoder.name,
        stem=params.encoder.stem,
        views=views,
        seed=params.seed,
        scratch=scratch,
        keep=keep,
        **settings,
    )
    with replacing("models/pretrain") as directory:
        directory.mkdir()
        for epoch in kept:
            shutil.copyfile(weights / f"{epoch}.safetensors", directory / f"{epoch}.safetensors")
        save_projector(projector, encoder.width, settings["projector"], directory / "projector.safetensors")
        shown = [read_array(correlations / f"{epoch}.npy", "pretrain") for epoch in kept]
        write_array(directory / "cross_correlation.npy", np.stack(shown))
    record_training("pretrain", trained)
    state = check_collapse(encoder, pictures, params.views.size)
    last = {term: round(trained.history[-1][term], 6) for term in ("loss", "invariance", "redundancy")}
    write_json("metrics/pretrain.json", last | state)
    return (
        f"loss {trained.history[0]['loss']:.3f} in the first epoch, {trained.history[-1]['loss']:.3f} in the last of "
        f"{len(trained.history)}, {trained.cost['images_per_second']:,.0f} images/s; {len(kept)} checkpoints kept{collapse_warning(state)}"
    )


if __name__ == "__main__":
    run(main, __doc__, machine=machine)
