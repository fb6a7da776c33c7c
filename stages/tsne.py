"""One t-SNE layout per checkpoint, each started from the one before, so that points move instead of jumping."""

from pathlib import Path

from stages.command import run
from stages.files import read_array, replacing
from stages.images.layout import open_images
from stages.learning.layouts import aligned_layouts
from stages.params import Declared
from stages.reporting.figures import layout_figure, layout_grid, save_figure
from stages.reporting.records import layouts_table, write_csv

EMBEDDINGS = Path("data/embeddings")


def main(params: Declared) -> str:
    labels, classes = read_array(EMBEDDINGS / "labels.npy", "embed"), open_images().classes
    epochs = sorted(int(path.stem) for path in EMBEDDINGS.glob("*.npy") if path.stem.isdigit())
    features = [read_array(EMBEDDINGS / f"{epoch}.npy", "embed") for epoch in epochs]
    layouts = dict(zip(epochs, aligned_layouts(features, seed=params.seed, **params.tsne), strict=True))
    write_csv(layouts_table(layouts, labels, classes), "plots/tsne.csv")
    save_figure(layout_grid(layouts, labels, classes), "plots/tsne.png")
    with replacing("plots/tsne") as directory:
        directory.mkdir()
        for epoch in layouts:
            save_figure(layout_figure(layouts, epoch, labels, classes), directory / f"{epoch}.png")
    return f"{len(layouts)} layouts of {len(labels):,} images: plots/tsne.png"


if __name__ == "__main__":
    run(main, __doc__)
