"""All methods at one label ratio, over several draws of which labels are visible: metrics/study/<ratio>.json."""

import shutil
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from stages.evaluation.accuracy import METHODS, correct, mean_over_draws
from stages.evaluation.predictions import predict
from stages.images.subsets import draw_labeled, unlabeled_pool
from stages.images.views import view_recipe
from stages.methods.linear_probe import train_probe
from stages.methods.semi_supervised import train_semi_supervised
from stages.methods.supervised import train_supervised
from stages.models import distributed
from stages.models.batches import ImagePool, visible_images
from stages.models.checkpoints import epoch_checkpoints, load_encoder, load_projector
from stages.models.device import device_name, machine_fingerprint, pick_device
from stages.models.encoders import build_classifier
from stages.pipeline.errors import UserError
from stages.pipeline.files import read_array, write_json
from stages.pipeline.image_set import ImageSet, open_images
from stages.pipeline.params import Params
from stages.pipeline.processes import is_main_process
from stages.pipeline.runner import run_stage
from stages.pipeline.scratch import file_lock
from stages.pipeline.seeds import derive_seed
from stages.training.checkpointer import load_state, save_state


class Draw(TypedDict):
    """What one draw of visible labels leaves.

    Attributes:
        labels: Number of visible labels.
        hits: (N,) whether each test image is classified correctly, for each method.
        seconds: Duration of each training.
    """

    labels: int
    hits: dict[str, Tensor]
    seconds: dict[str, float]


def main(params: Params, scratch: Path, ratio: str) -> str:
    images = open_images()

    # A draw that an interrupted run completed is not repeated. Draw 0 is that of the main run.
    numbers = range(1, params.study.seeds + 1)
    for number in distributed.share_out(f"study@{ratio}", numbers):
        with file_lock(f"study@{ratio}-{number}"):
            if load_state(scratch / "draws", str(number), Draw) is None:
                draw = train_all(params, images, float(ratio), number, scratch / str(number))
                save_state(scratch / "draws", str(number), draw)
                shutil.rmtree(scratch / str(number))
    if not is_main_process():
        return ""
    draws = [_load_draw(scratch, number) for number in numbers]

    # Mean, spread and cost over the draws.
    labels = draws[0]["labels"]
    summary = {
        method: mean_over_draws(np.stack([draw["hits"][method].numpy() for draw in draws]), labels)
        for method in METHODS
    }
    seconds = {name: round(sum(draw["seconds"][name] for draw in draws), 2) for name in draws[0]["seconds"]}
    write_json(f"metrics/study/{ratio}.json", summary)
    write_json(
        f"metrics/cost/study/{ratio}.json",
        {"seconds": seconds, "seeds": len(draws), "device": device_name(pick_device()), "torch": torch.__version__},
    )
    means = ", ".join(f"{method} {row['accuracy']:.1%}" for method, row in summary.items())
    return f"{labels:,} labels: {means}"


def _load_draw(scratch: Path, number: int) -> Draw:
    """Load what a draw has left.

    Raises:
        UserError: The file is damaged or missing.
    """
    if (draw := load_state(scratch / "draws", str(number), Draw)) is None:
        raise UserError(f"{scratch} no longer holds draw {number} intact: run again, which repeats this draw")
    return draw


def train_all(params: Params, images: ImageSet, ratio: float, draw: int, scratch: Path) -> Draw:
    """Train every method on one draw of visible labels, and test it."""
    labeled = draw_labeled(images.train_labels, ratio, params.seed, draw, images.folds, images.classes)
    device, size = pick_device(), params.views.size
    weak, strong = view_recipe(size, params.views.weak), view_recipe(size, params.views.strong)
    visible = visible_images(images, labeled, device)
    sample = read_array("data/unlabeled.npy", "sample", np.int64)
    pool = ImagePool(unlabeled_pool(images.unlabeled, sample, images.train, labeled), device)
    seeds = {name: derive_seed(params.seed, name, draw) for name in (*METHODS, "supervised weights")}

    # From the start, on the visible labels alone.
    encoder = params.encoder
    start = build_classifier(
        encoder.name, encoder.stem, len(images.classes), seeds["supervised weights"], encoder.weights
    )
    supervised, alone = train_supervised(
        start, visible, "supervised", strong, params.supervised, seeds["supervised"], scratch
    )

    # From the pretrained encoder: the linear probe, and what is initialised from it.
    pretrained = load_encoder(epoch_checkpoints("models/pretrain")[-1][1])
    projector = load_projector("models/pretrain/projector.safetensors")
    probe, _ = train_probe(pretrained, visible, weak, params.probe, seeds["probe"])
    fine_tuned, after_probe = train_supervised(
        probe, visible, "fine_tune", strong, params.fine_tune, seeds["fine_tune"], scratch
    )
    semi_supervised, together = train_semi_supervised(
        probe,
        projector,
        visible,
        pool,
        params.views,
        params.semi_supervised,
        params.pretrain.redundancy_weight,
        seeds["semi_supervised"],
        scratch,
    )

    models = dict(zip(METHODS, (supervised, probe, fine_tuned, semi_supervised), strict=True))
    results = {"supervised": alone, "fine_tune": after_probe, "semi_supervised": together}
    return {
        "labels": len(labeled),
        "hits": {method: torch.tensor(correct(predict(model, images, size))) for method, model in models.items()},
        "seconds": {name: result.seconds for name, result in results.items()},
    }


if __name__ == "__main__":
    run_stage(main, __doc__, fingerprint=machine_fingerprint, takes_ratio=True, all_processes=True)
