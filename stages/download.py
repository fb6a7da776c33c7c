"""Bring one image set from its source into one layout on disk: data/images/."""

import shutil
from pathlib import Path

import numpy as np

from stages.images.sources.folder import read_folder
from stages.images.sources.shapes import make_shapes
from stages.images.sources.stl10 import find_archive, unpack_stl10
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed

IMAGES = "data/images"
SCRATCH = Path(".scratch/download")


def main(params: Params) -> str:
    dataset, notes = params.dataset, list[str]()
    if dataset.source == "shapes":
        make_shapes(IMAGES, dataset.image_size, np.random.default_rng(derive_seed(params.seed, "download")))
    elif dataset.source == "folder":
        assert dataset.path, "the check of the parameters refuses a folder without a path"
        notes = read_folder(
            dataset.path,
            dataset.image_size,
            IMAGES,
            test_share=dataset.test_share,
            test_images=dataset.test_images,
            skip_broken=dataset.skip_broken,
        )
    else:
        unpack_stl10(find_archive(dataset.path, dataset.url, dataset.md5, SCRATCH), IMAGES)
        shutil.rmtree(SCRATCH, ignore_errors=True)

    images = open_images(IMAGES)
    height, width = images.train.shape[1:3]
    line = (
        f"{len(images.train):,} training, {len(images.test):,} test and {len(images.unlabeled):,} unlabelled images "
        f"of {height}x{width} pixels in {len(images.classes)} classes"
    )
    return "\n".join([line, *(f"WARNING: {note}" for note in notes)])


if __name__ == "__main__":
    run_stage(main, __doc__)
