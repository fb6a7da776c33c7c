"""Pretrain an encoder on the unlabelled sample by Barlow Twins, and keep it from random weights to the last epoch."""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.command import run
from stages.files import UserError, read_array, replacing, write_array, write_json
from stages.images.layout import open_images
from stages.images.views import ViewRecipe
from stages.learning import processes
from stages.learning.barlow_twins import pretrain, shown_correlation
from stages.learning.batches import Pictures, pick_device
from stages.learning.checkpoints import save_encoder, save_projector
from stages.learning.encoders import Encoder
from stages.learning.representation import LOOKED_AT, check_collapse
from stages.learning.schedules import checkpoint_epochs
from stages.learning.states import read_state, write_state
from stages.learning.training import machine
from stages.params import Declared
from stages.reporting.results import collapse_warning, record_training


def main(params: Declared, scratch: Path) -> str:
    images, sample = open_images(), read_array("data/unlabeled.npy", "sample")
    views = ViewRecipe(params.views.size, **params.views.strong)
    settings = dict(**params.pretrain)
    kept = checkpoint_epochs(settings["epochs"], settings.pop("checkpoints"))
    with processes.joined():
        pictures = Pictures([(images.unlabeled, sample)], pick_device())
        looked_at = pictures.first(LOOKED_AT)

        def keep(epoch: int, encoder: Encoder, projector: nn.Sequential) -> None:
            if epoch in kept:
                shown = shown_correlation(encoder, projector, looked_at, views, params.seed)
                checkpoint = {"encoder": encoder.state_dict(), "correlation": torch.from_numpy(shown)}
                write_state(scratch / "checkpoints", str(epoch), checkpoint)

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
        if not processes.is_first():
            return ""
    checkpoints = {epoch: _read_checkpoint(scratch, epoch) for epoch in kept}
    with replacing("models/pretrain") as directory:
        directory.mkdir()
        for epoch, checkpoint in checkpoints.items():
            encoder.load_state_dict(checkpoint["encoder"])
            save_encoder(encoder, directory / f"{epoch}.safetensors")
        save_projector(projector, encoder.width, settings["projector"], directory / "projector.safetensors")
        shown = [checkpoint["correlation"].numpy() for checkpoint in checkpoints.values()]
        write_array(directory / "cross_correlation.npy", np.stack(shown))
    record_training("pretrain", trained)
    state = check_collapse(encoder, looked_at, params.views.size)
    last = {term: round(trained.history[-1][term], 6) for term in ("loss", "invariance", "redundancy")}
    write_json("metrics/pretrain.json", last | state)
    return (
        f"loss {trained.history[0]['loss']:.3f} in the first epoch, {trained.history[-1]['loss']:.3f} in the last of "
        f"{len(trained.history)}, {trained.cost['images_per_second']:,.0f} images/s; {len(kept)} checkpoints kept{collapse_warning(state)}"
    )


def _read_checkpoint(scratch: Path, epoch: int) -> dict:
    """What `keep` wrote after an epoch; where it is damaged or gone, nothing is kept, so that the next run begins anew."""
    for path in (scratch / "checkpoints").glob(f"{epoch}-*.pt"):
        if (checkpoint := read_state(path)) is not None:
            return checkpoint
    shutil.rmtree(scratch)
    raise UserError(
        f"{scratch} no longer held the encoder after epoch {epoch} as it was written, and was removed: run again, which pretrains from the start"
    )


if __name__ == "__main__":
    run(main, __doc__, machine=machine, together=True)
