"""Bring one image set from its source into one layout on disk: data/images/."""

import shutil
from pathlib import Path

import numpy as np

from stages.images.sources.copies import copies_table
from stages.images.sources.folder import FolderReport, read_folder
from stages.images.sources.shapes import make_shapes
from stages.images.sources.stl10 import find_archive, unpack_stl10
from stages.pipeline.files import write_csv, write_json
from stages.pipeline.image_set import SET_ASIDE, ImageSet, open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed

IMAGES = "data/images"
SCRATCH = Path(".scratch/download")


def main(params: Params) -> str:
    dataset, report = params.dataset, FolderReport([], {}, copies_table([], Path()))
    if dataset.source == "shapes":
        make_shapes(IMAGES, dataset.image_size, np.random.default_rng(derive_seed(params.seed, "download")))
    elif dataset.source == "folder":
        assert dataset.path, "the check of the parameters refuses a folder without a path"
        report = read_folder(
            dataset.path,
            dataset.image_size,
            IMAGES,
            test_share=dataset.test_share,
            test_images=dataset.test_images,
            skip_broken=dataset.skip_broken,
            leave_out_copies=dataset.leave_out_copies,
        )
    else:
        unpack_stl10(find_archive(dataset.path, dataset.url, dataset.md5, SCRATCH), IMAGES)
        shutil.rmtree(SCRATCH, ignore_errors=True)

    images = open_images(IMAGES)
    write_csv(report.copies, "data/copies.csv")
    write_json("metrics/data.json", data_summary(images, report))
    height, width = images.train.shape[1:3]
    line = (
        f"{len(images.train):,} training, {len(images.test):,} test and {len(images.unlabeled):,} unlabelled images "
        f"of {height}x{width} pixels in {len(images.classes)} classes"
    )
    return "\n".join([line, *(f"WARNING: {note}" for note in report.notes)])


def data_summary(images: ImageSet, report: FolderReport) -> dict[str, object]:
    """Return what is in an image set, what was left out, and how many copies there are, for metrics/data.json."""
    splits = (images.train_labels, images.test_labels)
    counts = (np.bincount(labels, minlength=len(images.classes)) for labels in splits)
    copies = report.copies
    labeled = (copies["class"] != "") & (copies["copy_of_class"] != "")
    return {
        "train": len(images.train),
        "test": len(images.test),
        "unlabeled": len(images.unlabeled),
        SET_ASIDE: len(images.files.get(SET_ASIDE, [])),
        "classes": {
            name: {"train": int(train), "test": int(test)}
            for name, train, test in zip(images.classes, *counts, strict=True)
        },
        "left_out": report.left_out,
        "copies": {
            "exact": int((copies["kind"] == "exact").sum()),
            "near": int((copies["kind"] == "near").sum()),
            "left_out": int(copies["left_out"].sum()),
            "other_class": int((labeled & (copies["class"] != copies["copy_of_class"])).sum()),
        },
    }


if __name__ == "__main__":
    run_stage(main, __doc__)
