"""Compute features of the same training images at every checkpoint, and metrics that describe them."""

import numpy as np
import pandas as pd

from stages.evaluation.representation import describe_features
from stages.images.subsets import pick_evenly
from stages.images.views import view_recipe
from stages.models.batches import to_device
from stages.models.checkpoints import epoch_checkpoints, load_encoder
from stages.models.device import pick_device
from stages.models.features import extract_features, extract_view_features
from stages.pipeline.files import atomic_write, write_array, write_csv, write_json
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage


def main(params: Params) -> str:
    images, device = open_images(), pick_device()
    chosen = pick_evenly(images.train_labels, params.embed.images, params.seed)
    inputs, labels = to_device(images.train, chosen, device), images.train_labels[chosen]
    recipe = view_recipe(params.views.size, params.views.strong)

    rows = []
    with atomic_write("data/embeddings") as directory:
        directory.mkdir()
        write_array(directory / "images.npy", chosen)
        write_array(directory / "labels.npy", labels)
        for epoch, path in epoch_checkpoints("models/pretrain"):
            encoder = load_encoder(path).to(device)
            features = extract_features(encoder, inputs, params.views.size)
            view_features = extract_view_features(encoder, inputs, recipe, 2, params.seed)
            metrics = describe_features(features, view_features, labels, params.embed.neighbours, params.seed)
            rows.append({"epoch": epoch} | metrics)
            write_array(directory / f"{epoch}.npy", features)

    write_csv(pd.DataFrame(rows).round(6), "plots/representation.csv")
    first, last = rows[0], rows[-1]
    write_json("metrics/embed.json", {key: round(value, 6) for key, value in last.items() if not np.isnan(value)})
    return (
        f"{len(chosen):,} training images at {len(rows)} checkpoints: k-NN accuracy {first['knn_accuracy']:.1%} with "
        f"random weights, {last['knn_accuracy']:.1%} after epoch {last['epoch']}"
    )


if __name__ == "__main__":
    run_stage(main, __doc__)
