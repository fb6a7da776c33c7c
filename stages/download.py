"""Bring one image set from its source into one layout on disk: data/images/."""

import shutil
from pathlib import Path

import numpy as np

from stages.command import run
from stages.images.folder import read_folder
from stages.images.layout import open_images
from stages.images.shapes import make_shapes
from stages.images.stl10 import find_archive, unpack_stl10
from stages.params import Declared

IMAGES = "data/images"
SCRATCH = Path(".scratch/download")


def main(params: Declared) -> str:
    dataset = params.dataset
    if dataset.source == "shapes":
        make_shapes(IMAGES, dataset.image_size, np.random.default_rng(params.seed))
    elif dataset.source == "folder":
        read_folder(dataset.path, dataset.image_size, IMAGES)
    else:
        unpack_stl10(find_archive(dataset.path, dataset.url, dataset.md5, SCRATCH), IMAGES)
        shutil.rmtree(SCRATCH, ignore_errors=True)
    images = open_images(IMAGES)
    return (
        f"{len(images.train):,} training, {len(images.test):,} test and {len(images.unlabeled):,} unlabelled images "
        f"of {images.train.shape[1]}x{images.train.shape[2]} pixels in {len(images.classes)} classes"
    )


if __name__ == "__main__":
    run(main, __doc__)
