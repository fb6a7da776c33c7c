"""Decide which training labels are visible: data/labeled.npy, stratified, a smaller ratio inside a larger one."""

from stages.command import run
from stages.files import write_array
from stages.images.layout import open_images
from stages.images.subsets import draw_labeled
from stages.params import Declared


def main(params: Declared) -> str:
    images = open_images()
    labels = images.train_labels
    visible = draw_labeled(labels, params.label_ratio, params.seed, images.folds)
    write_array("data/labeled.npy", visible)
    return f"{len(visible):,} of {len(labels):,} training labels are visible"


if __name__ == "__main__":
    run(main, __doc__)
