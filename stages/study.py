"""The three methods at one label ratio, over several draws of which labels are visible: metrics/study/<ratio>.json."""

import numpy as np
import torch

from stages.command import run
from stages.files import read_array, write_json
from stages.images.layout import open_images
from stages.images.subsets import draw_labeled, unlabeled_pool
from stages.images.views import ViewRecipe
from stages.learning.checkpoints import epoch_checkpoints, load_encoder, load_projector
from stages.learning.evaluation import accuracy
from stages.learning.linear_probe import train_probe
from stages.learning.semi_supervised import train_semi_supervised
from stages.learning.supervised import train_supervised
from stages.learning.training import on_device, pick_device
from stages.params import Declared


def main(params: Declared, ratio: str) -> str:
    images, device = open_images(), pick_device()
    sample = read_array("data/unlabeled.npy", "sample")
    last = epoch_checkpoints("models/pretrain")[-1][1]
    encoder, size = load_encoder(last).to(device), params.views.size
    weak, strong = (ViewRecipe(size, **recipe) for recipe in (params.views.weak, params.views.strong))
    found: dict[str, list[float]] = {"supervised": [], "probe": [], "semi_supervised": []}
    for seed in range(params.seed, params.seed + params.study.seeds):
        labeled = draw_labeled(images.train_labels, float(ratio), seed)
        pictures, numbers = on_device(images.train, labeled, device), images.train_labels[labeled]
        labels, classes = torch.from_numpy(numbers).to(device), len(images.classes)

        baseline, _ = train_supervised(
            pictures,
            labels,
            classes,
            encoder=params.encoder.name,
            stem=params.encoder.stem,
            views=strong,
            seed=seed,
            **params.supervised,
        )
        found["supervised"].append(accuracy(baseline, images, size, device))

        probe, _ = train_probe(encoder, pictures, numbers, recipe=weak, seed=seed, **params.probe)
        found["probe"].append(accuracy(probe, images, size, device))

        joint, _ = train_semi_supervised(
            pictures,
            labels,
            torch.from_numpy(unlabeled_pool(images.unlabeled, sample, images.train, labeled)).to(device),
            classes,
            encoder=load_encoder(last),
            projector=load_projector(last.with_name("projector.safetensors")),
            weak=weak,
            strong=strong,
            redundancy_weight=params.pretrain.redundancy_weight,
            seed=seed,
            **params.semi_supervised,
        )
        found["semi_supervised"].append(accuracy(joint, images, size, device))

    summary = {
        method: {
            "accuracy": round(float(np.mean(shares)), 6),
            "std": round(float(np.std(shares, ddof=1)), 6) if len(shares) > 1 else 0.0,
            "seeds": len(shares),
            "labels": len(labeled),
            "test_images": len(images.test_labels),
        }
        for method, shares in found.items()
    }
    write_json(f"metrics/study/{ratio}.json", summary)
    return f"{len(labeled):,} labels: " + ", ".join(f"{m} {s['accuracy']:.1%}" for m, s in summary.items())


if __name__ == "__main__":
    run(main, __doc__, with_ratio=True)
