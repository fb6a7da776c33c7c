"""One t-SNE layout per checkpoint, each started from the one before, so that points move instead of jumping."""

from pathlib import Path

import pandas as pd

from stages.command import run
from stages.files import read_array, replacing, require, write_text
from stages.images.layout import open_images
from stages.learning.layouts import aligned_layouts
from stages.params import Declared
from stages.reporting.evolution import evolution_page
from stages.reporting.figures import layout_figure, layout_grid, layout_movie, representation_figure, save_figure
from stages.reporting.records import layouts_table, read_history, write_csv

EMBEDDINGS = Path("data/embeddings")


def main(params: Declared) -> str:
    images, chosen = open_images(), read_array(EMBEDDINGS / "images.npy", "embed")
    labels, classes = read_array(EMBEDDINGS / "labels.npy", "embed"), images.classes
    epochs = sorted(int(path.stem) for path in EMBEDDINGS.glob("*.npy") if path.stem.isdigit())
    features = [read_array(EMBEDDINGS / f"{epoch}.npy", "embed") for epoch in epochs]
    layouts = dict(zip(epochs, aligned_layouts(features, seed=params.seed, **params.tsne), strict=True))
    write_csv(layouts_table(layouts, labels, classes), "plots/tsne.csv")
    save_figure(layout_grid(layouts, labels, classes), "plots/tsne.png")
    with replacing("plots/tsne") as directory:
        directory.mkdir()
        for epoch in layouts:
            save_figure(layout_figure(layouts, epoch, labels, classes), directory / f"{epoch}.png")
    numbers = pd.read_csv(require("plots/representation.csv", "embed"))
    losses = read_history("pretrain")[["epoch", "invariance", "redundancy"]]
    save_figure(representation_figure(numbers, losses), "plots/representation.png")
    with replacing("plots/tsne.webp") as aside:
        layout_movie(layouts, labels, classes, aside)
    correlations = read_array("models/pretrain/cross_correlation.npy", "pretrain")
    numbers = numbers.merge(losses, on="epoch", how="left")
    write_text(
        "plots/evolution.html",
        evolution_page(layouts, features, images.train[chosen], labels, classes, numbers, correlations),
    )
    return f"{len(layouts)} layouts of {len(labels):,} images: plots/tsne.png, and plots/evolution.html to play with"


if __name__ == "__main__":
    run(main, __doc__)
