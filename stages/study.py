"""All methods at one label ratio, over several draws of which labels are visible: metrics/study/<ratio>.json."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.evaluation.accuracy import correct
from stages.evaluation.predictions import predict
from stages.images.subsets import draw_labeled, unlabeled_pool
from stages.images.views import view_recipe
from stages.methods.linear_probe import train_probe
from stages.methods.semi_supervised import train_semi_supervised
from stages.methods.supervised import train_supervised
from stages.models.batches import ImagePool, require_batch, visible_images
from stages.models.checkpoints import epoch_checkpoints, load_encoder, load_projector
from stages.models.device import machine_fingerprint, pick_device
from stages.models.encoders import build_classifier
from stages.pipeline.files import read_array, write_json
from stages.pipeline.image_set import ImageSet, open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.training.checkpointer import load_state, save_state


def main(params: Params, scratch: Path, ratio: str) -> str:
    images = open_images()
    seeds = range(params.seed, params.seed + params.study.seeds)
    draws = {seed: draw_labeled(images.train_labels, float(ratio), seed, images.folds) for seed in seeds}
    labels = min(map(len, draws.values()))
    for name, settings in (
        ("supervised", params.supervised),
        ("fine_tune", params.fine_tune),
        ("semi_supervised", params.semi_supervised),
    ):
        require_batch(settings.batch_size, labels, f"{name}.batch_size", f"visible labels at ratio {ratio}")

    # A draw that an interrupted run completed is not repeated.
    accuracies: list[dict[str, float]] = []
    for seed, labeled in draws.items():
        completed = next(filter(None, map(load_state, (scratch / "draws").glob(f"{seed}-*.pt"))), None)
        if completed is None:
            completed = train_all(params, images, labeled, seed, scratch / str(seed))
            save_state(scratch / "draws", str(seed), completed)
            shutil.rmtree(scratch / str(seed))
        accuracies.append(completed)

    summary = {
        method: summarise([draw[method] for draw in accuracies])
        | {"labels": labels, "test_images": len(images.test_labels)}
        for method in accuracies[0]
    }
    write_json(f"metrics/study/{ratio}.json", summary)
    means = ", ".join(f"{method} {row['accuracy']:.1%}" for method, row in summary.items())
    return f"{labels:,} labels: {means}"


def train_all(
    params: Params, images: ImageSet, labeled: NDArray[np.int64], seed: int, scratch: Path
) -> dict[str, float]:
    """Train every method with these labels visible, and return its test accuracy."""
    device, size = pick_device(), params.views.size
    weak, strong = view_recipe(size, params.views.weak), view_recipe(size, params.views.strong)
    visible = visible_images(images, labeled, device)
    sample = read_array("data/unlabeled.npy", "sample", np.int64)
    pool = ImagePool(unlabeled_pool(images.unlabeled, sample, images.train, labeled), device)

    encoder = load_encoder(epoch_checkpoints("models/pretrain")[-1][1])
    projector = load_projector("models/pretrain/projector.safetensors")

    # From random weights, on the visible labels alone.
    start = build_classifier(params.encoder.name, params.encoder.stem, len(images.classes), seed)
    supervised, _ = train_supervised(start, visible, "supervised", strong, params.supervised, seed, scratch)

    # From the pretrained encoder: the linear probe, and what is initialised from it.
    probe, _ = train_probe(encoder, visible, weak, params.probe, seed)
    fine_tuned, _ = train_supervised(probe, visible, "fine_tune", strong, params.fine_tune, seed, scratch)
    semi_supervised, _ = train_semi_supervised(
        probe,
        projector,
        visible,
        pool,
        params.views,
        params.semi_supervised,
        params.pretrain.redundancy_weight,
        seed,
        scratch,
    )

    models = {
        "supervised": supervised,
        "probe": probe,
        "fine_tune": fine_tuned,
        "semi_supervised": semi_supervised,
    }
    return {method: float(correct(predict(model, images, size)).mean()) for method, model in models.items()}


def summarise(accuracies: list[float]) -> dict[str, float | int | list[float]]:
    """Return mean and standard deviation over draws, and the accuracy of each."""
    return {
        "accuracy": round(float(np.mean(accuracies)), 6),
        "std": round(float(np.std(accuracies, ddof=1)), 6) if len(accuracies) > 1 else 0.0,
        "seeds": len(accuracies),
        "draws": [round(accuracy, 6) for accuracy in accuracies],
    }


if __name__ == "__main__":
    run_stage(main, __doc__, fingerprint=machine_fingerprint, takes_ratio=True)
