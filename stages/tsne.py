"""Lay out the features of every checkpoint by t-SNE, each layout aligned to the one before it."""

import numpy as np

from stages.evaluation.tsne import aligned_layouts, layouts_table
from stages.pipeline.files import (
    atomic_write,
    read_array,
    replace_directory,
    require_no_other_files,
    write_csv,
    write_text,
)
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed
from stages.reporting.evolution import Evolution, evolution_page
from stages.reporting.figures.representation import layout_figure, layout_grid, layout_movie, representation_figure
from stages.reporting.figures.style import choose_fonts, save_figure
from stages.reporting.records import read_embeddings, read_history, read_representation

_FILES = r"epoch-\d+\.png"


def main(params: Params) -> str:
    require_no_other_files("plots/tsne", _FILES)
    images, embeddings = open_images(), read_embeddings()
    classes, labels, features = images.classes, embeddings.labels, embeddings.features
    choose_fonts(classes)
    metrics = read_representation()
    loss_terms = read_history("pretrain")[["epoch", "invariance", "redundancy"]]
    correlations = read_array("models/pretrain/cross_correlation.npy", "pretrain", np.float32)

    perplexity = min(params.tsne.perplexity, max(1.0, (len(labels) - 1) / 3))
    found = aligned_layouts(
        list(features.values()),
        perplexity=perplexity,
        iterations=params.tsne.iterations,
        seed=derive_seed(params.seed, "tsne"),
    )
    layouts = dict(zip(features, found, strict=True))

    write_csv(layouts_table(layouts, labels, classes), "plots/tsne.csv")
    save_figure(layout_grid(layouts, labels, classes), "plots/tsne.png")
    with replace_directory("plots/tsne", _FILES) as directory:
        for epoch in layouts:
            save_figure(layout_figure(layouts, epoch, labels, classes), directory / f"epoch-{epoch}.png")
    with atomic_write("plots/tsne.webp") as temporary:
        layout_movie(layouts, labels, classes, temporary)
    save_figure(representation_figure(metrics, loss_terms), "plots/representation.png")

    evolution = Evolution(layouts, features, metrics.merge(loss_terms, on="epoch", how="left"), correlations)
    files = [images.files["train"][image] for image in embeddings.images] if images.files else None
    page = evolution_page(evolution, images.train[embeddings.images], labels, classes, files)
    write_text("plots/evolution.html", page)
    line = f"{len(layouts)} layouts of {len(labels):,} images: see plots/tsne.png and plots/evolution.html"
    if perplexity < params.tsne.perplexity:
        line += f"\nWARNING: {perplexity:.1f}, a third of the images, was used instead of tsne.perplexity"
    return line


if __name__ == "__main__":
    run_stage(main, __doc__)
