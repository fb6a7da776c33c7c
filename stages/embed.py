"""Features of the same training images at every checkpoint, and the numbers that describe them."""

import numpy as np
import pandas as pd

from stages.command import run
from stages.files import replacing, write_array, write_json
from stages.images.layout import open_images
from stages.images.subsets import pick_evenly
from stages.images.views import ViewRecipe
from stages.learning.batches import on_device, pick_device
from stages.learning.checkpoints import epoch_checkpoints, load_encoder
from stages.learning.representation import describe_features, outputs, view_outputs
from stages.params import Declared
from stages.reporting.records import write_csv


def main(params: Declared) -> str:
    images, device = open_images(), pick_device()
    chosen = pick_evenly(images.train_labels, params.embed.images, params.seed)
    pictures, labels = on_device(images.train, chosen, device), images.train_labels[chosen]
    recipe = ViewRecipe(params.views.size, **params.views.strong)
    rows = []
    with replacing("data/embeddings") as directory:
        directory.mkdir()
        write_array(directory / "images.npy", chosen)
        write_array(directory / "labels.npy", labels)
        for epoch, path in epoch_checkpoints("models/pretrain"):
            encoder = load_encoder(path).to(device)
            whole = outputs(encoder, pictures, params.views.size)
            twins = view_outputs(encoder, pictures, recipe, 2, params.seed)
            numbers = describe_features(whole, twins, labels, params.embed.neighbours, params.seed)
            rows.append({"epoch": epoch} | numbers)
            write_array(directory / f"{epoch}.npy", whole)
    write_csv(pd.DataFrame(rows).round(6), "plots/representation.csv")
    known = {key: round(value, 6) for key, value in rows[-1].items() if not np.isnan(value)}
    write_json("metrics/embed.json", known)
    return (
        f"{len(chosen):,} training images at {len(rows)} checkpoints; nearest neighbours agree on the class for "
        f"{rows[0]['knn_accuracy']:.1%} with random weights, {rows[-1]['knn_accuracy']:.1%} after epoch {rows[-1]['epoch']}"
    )


if __name__ == "__main__":
    run(main, __doc__)
