"""All methods at one label ratio, over several draws of which labels are visible: metrics/study/<ratio>.json."""

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.command import run
from stages.files import read_array, write_json
from stages.images.layout import open_images
from stages.images.subsets import draw_labeled, unlabeled_pool
from stages.images.views import ViewRecipe
from stages.learning.batches import Pictures, pick_device, require_batch, visible_images
from stages.learning.checkpoints import epoch_checkpoints, load_encoder, load_projector
from stages.learning.evaluation import accuracy
from stages.learning.linear_probe import train_probe
from stages.learning.semi_supervised import train_semi_supervised
from stages.learning.states import read_state, write_state
from stages.learning.supervised import new_classifier, train_supervised
from stages.learning.training import machine
from stages.params import Declared
from stages.reporting.records import METHODS


def main(params: Declared, scratch: Path, ratio: str) -> str:
    images, device = open_images(), pick_device()
    sample = read_array("data/unlabeled.npy", "sample")
    encoder = load_encoder(epoch_checkpoints("models/pretrain")[-1][1])
    projector = load_projector("models/pretrain/projector.safetensors")
    size = params.views.size
    weak, strong = (ViewRecipe(size, **recipe) for recipe in (params.views.weak, params.views.strong))
    seeds = range(params.seed, params.seed + params.study.seeds)
    draws = {seed: draw_labeled(images.train_labels, float(ratio), seed, images.folds) for seed in seeds}
    for section in ("supervised", "fine_tune", "semi_supervised"):
        key, fewest = f"{section}.batch_size", min(map(len, draws.values()))
        require_batch(params[section].batch_size, fewest, key, f"visible labels at ratio {ratio}")

    def train(seed: int, labeled: NDArray[np.int64], keep: Path) -> dict[str, float]:
        """Accuracy of each method with these labels visible."""
        visible = visible_images(images, labeled, device)
        pool = Pictures(unlabeled_pool(images.unlabeled, sample, images.train, labeled), device)
        start = new_classifier(params.encoder.name, params.encoder.stem, len(images.classes), seed)
        supervised, _ = train_supervised(
            start, *visible, section="supervised", views=strong, seed=seed, scratch=keep, **params.supervised
        )
        probe, _ = train_probe(encoder, *visible, recipe=weak, seed=seed, **params.probe)
        tuned, _ = train_supervised(
            probe, *visible, section="fine_tune", views=strong, seed=seed, scratch=keep, **params.fine_tune
        )
        semi_supervised, _ = train_semi_supervised(
            probe,
            projector,
            *visible,
            pool,
            weak=weak,
            strong=strong,
            redundancy_weight=params.pretrain.redundancy_weight,
            seed=seed,
            scratch=keep,
            **params.semi_supervised,
        )
        models = (supervised, probe, tuned, semi_supervised)
        return {method: accuracy(model, images, size) for method, model in zip(METHODS, models, strict=True)}

    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for seed, labeled in draws.items():
        shares = next(filter(None, map(read_state, (scratch / "draws").glob(f"{seed}-*.pt"))), None)
        if shares is None:
            shares = train(seed, labeled, scratch / str(seed))
            write_state(scratch / "draws", str(seed), shares)
            shutil.rmtree(scratch / str(seed))
        for method, share in shares.items():
            found[method].append(share)

    summary = {
        method: {
            "accuracy": round(float(np.mean(shares)), 6),
            "std": round(float(np.std(shares, ddof=1)), 6) if len(shares) > 1 else 0.0,
            "seeds": len(shares),
            "draws": [round(share, 6) for share in shares],
            "labels": len(labeled),
            "test_images": len(images.test_labels),
        }
        for method, shares in found.items()
    }
    write_json(f"metrics/study/{ratio}.json", summary)
    return f"{len(labeled):,} labels: " + ", ".join(f"{m} {s['accuracy']:.1%}" for m, s in summary.items())


if __name__ == "__main__":
    run(main, __doc__, machine=machine, with_ratio=True)
