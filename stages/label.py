"""Decide which training labels are visible: data/labeled.npy, stratified by class, and nested between label ratios."""

from stages.images.subsets import draw_labeled
from stages.pipeline.files import write_array
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage


def main(params: Params) -> str:
    images = open_images()
    labels = images.train_labels
    labeled = draw_labeled(labels, params.label_ratio, params.seed, 0, images.folds, images.classes)
    write_array("data/labeled.npy", labeled)
    return f"{len(labeled):,} of {len(labels):,} training labels are visible"


if __name__ == "__main__":
    run_stage(main, __doc__)
