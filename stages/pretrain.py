"""Pretrain an encoder on the unlabelled sample by Barlow Twins, and keep it from before training to the last epoch."""

import shutil
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from stages.evaluation.collapse import RANK_IMAGES, check_collapse, collapse_warning
from stages.images.views import view_recipe
from stages.methods.barlow_twins import checkpoint_epochs, pretrain, shown_correlation
from stages.models import distributed
from stages.models.batches import ImagePool
from stages.models.checkpoints import save_encoder, save_projector
from stages.models.device import group_fingerprint, pick_device
from stages.models.encoders import Encoder
from stages.pipeline.errors import UserError
from stages.pipeline.files import read_array, replace_directory, require_no_other_files, write_array, write_json
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed
from stages.training.checkpointer import load_state, save_state
from stages.training.loop import record_training

_TERMS = ("loss", "invariance", "redundancy")
_FILES = r"(\d+|projector)\.safetensors|cross_correlation\.npy"
_SHOWN_IMAGES = 500


class Checkpoint(TypedDict):
    """What is kept of an epoch: the weights of the encoder, and the cross-correlation of its embeddings."""

    encoder: dict[str, Tensor]
    correlation: Tensor


def main(params: Params, scratch: Path) -> str:
    require_no_other_files("models/pretrain", _FILES)
    images, sample = open_images(), read_array("data/unlabeled.npy", "sample", np.int64)
    views, settings = view_recipe(params.views.size, params.views.strong), params.pretrain
    seed = derive_seed(params.seed, "pretrain")
    epochs = checkpoint_epochs(settings.epochs, settings.checkpoints)
    with distributed.process_group():
        pool = ImagePool([(images.unlabeled, sample)], pick_device())
        shown_images = pool.spread(_SHOWN_IMAGES)

        def keep(epoch: int, encoder: Encoder, projector: nn.Sequential) -> None:
            if epoch in epochs:
                correlation = shown_correlation(encoder, projector, shown_images, views, seed)
                checkpoint = Checkpoint(encoder=encoder.state_dict(), correlation=torch.from_numpy(correlation))
                save_state(scratch / "checkpoints", str(epoch), checkpoint)

        encoder, projector, result = pretrain(pool, params.encoder, views, settings, seed, scratch, keep)
        if not distributed.is_writer():
            return ""

    # Only now are all checkpoints complete: they replace those of an earlier run together.
    checkpoints = {epoch: _load_checkpoint(scratch, epoch) for epoch in epochs}
    with replace_directory("models/pretrain", _FILES) as directory:
        for epoch, checkpoint in checkpoints.items():
            encoder.load_state_dict(checkpoint["encoder"])
            save_encoder(encoder, directory / f"{epoch}.safetensors")
        save_projector(projector, encoder.width, settings.projector, directory / "projector.safetensors")
        correlations = np.stack([checkpoint["correlation"].numpy() for checkpoint in checkpoints.values()])
        write_array(directory / "cross_correlation.npy", correlations)

    record_training("pretrain", result)
    collapse = check_collapse(encoder, pool.spread(RANK_IMAGES), params.views.size)
    first, last = result.history[0], result.history[-1]
    write_json("metrics/pretrain.json", {term: round(last[term], 6) for term in _TERMS} | dict(collapse))
    line = (
        f"loss {first['loss']:.3f} in the first epoch, {last['loss']:.3f} in the last of {len(result.history)}, "
        f"{result.cost['images_per_second']:,.0f} images/s; {len(epochs)} checkpoints kept"
    )
    return line + collapse_warning(collapse, pretrained=True)


def _load_checkpoint(scratch: Path, epoch: int) -> Checkpoint:
    """Load what was kept after an epoch.

    Raises:
        UserError: The file is damaged or missing. Nothing is kept, so that the next run starts from the beginning.
    """
    if (checkpoint := load_state(scratch / "checkpoints", str(epoch), Checkpoint)) is not None:
        return checkpoint
    shutil.rmtree(scratch)
    raise UserError(
        f"{scratch} no longer held the encoder after epoch {epoch} intact, and was removed: "
        "run again, which pretrains from the start"
    )


if __name__ == "__main__":
    run_stage(main, __doc__, fingerprint=group_fingerprint, all_processes=True)
