"""Compute features of the same training images at every checkpoint, and metrics that describe them."""

import numpy as np
import pandas as pd

from stages.evaluation.collapse import RANK_IMAGES
from stages.evaluation.representation import describe_features, knn_accuracy, nearest_distance
from stages.evaluation.warnings import unlike_sentence, with_warning
from stages.images.subsets import pick_evenly
from stages.images.views import view_recipe
from stages.models.batches import spread_indices, to_device
from stages.models.checkpoints import epoch_checkpoints, load_encoder
from stages.models.device import pick_device
from stages.models.features import extract_features, extract_view_features
from stages.pipeline.files import replace_directory, write_array, write_csv, write_json
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed

_FILES = r"(\d+|images|labels)\.npy"


def main(params: Params) -> str:
    images, device, seed = open_images(), pick_device(), derive_seed(params.seed, "embed")
    chosen = pick_evenly(images.train_labels, params.embed.images, seed)
    inputs, labels = to_device(images.train, chosen, device), images.train_labels[chosen]
    rank_inputs = to_device(images.unlabeled, spread_indices(len(images.unlabeled), RANK_IMAGES), device)
    size, recipe = params.views.size, view_recipe(params.views.size, params.views.strong)

    rows = []
    with replace_directory("data/embeddings", _FILES) as directory:
        write_array(directory / "images.npy", chosen)
        write_array(directory / "labels.npy", labels)
        for epoch, path in epoch_checkpoints("models/pretrain"):
            encoder = load_encoder(path).to(device)
            features = extract_features(encoder, inputs, size)
            view_features = extract_view_features(encoder, inputs, recipe, 2, seed)
            rank_features = extract_features(encoder, rank_inputs, size)
            metrics = describe_features(features, view_features, rank_features, labels, params.embed.neighbours, seed)
            rows.append({"epoch": epoch, "rank_images": len(rank_inputs)} | metrics)
            write_array(directory / f"{epoch}.npy", features)

    # Of the last encoder also the k-NN accuracy that is usually published, with training images as bank and test images
    # as queries, and how far test and unlabelled images are from the training images.
    bank, queries = (
        extract_features(encoder, to_device(split, None, device), size) for split in (images.train, images.test)
    )
    knn_test_accuracy = knn_accuracy(bank, images.train_labels, queries, images.test_labels)

    write_csv(pd.DataFrame(rows).round(6), "plots/representation.csv")
    first, last = rows[0], rows[-1]
    metrics = last | {
        "knn_test_accuracy": knn_test_accuracy,
        "bank_images": len(bank),
        "test_distance": nearest_distance(bank, queries),
        "unlabeled_distance": nearest_distance(bank, rank_features),
    }
    metrics = {key: round(value, 6) for key, value in metrics.items() if not np.isnan(value)}
    write_json("metrics/embed.json", metrics)
    line = (
        f"{len(chosen):,} training images at {len(rows)} checkpoints: k-NN accuracy {first['knn_accuracy']:.1%} "
        f"before pretraining, {last['knn_accuracy']:.1%} after epoch {last['epoch']}"
    )
    return with_warning(line, unlike_sentence(metrics["unlabeled_distance"], metrics["test_distance"]))


if __name__ == "__main__":
    run_stage(main, __doc__)
