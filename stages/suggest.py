"""Suggest which images to label next, the most useful first, and make a page to label them on.

The table is data/suggestions.csv, the page plots/label.html.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.images.sources.labels import new_table, read_table
from stages.images.sources.listing import image_files, listed, name_below, read_chunks
from stages.labeling.suggestions import suggest
from stages.models.checkpoints import epoch_checkpoints, load_encoder
from stages.models.device import pick_device
from stages.models.features import extract_all
from stages.pipeline.files import write_csv, write_text
from stages.pipeline.image_set import SET_ASIDE, ImageSet, open_images
from stages.pipeline.layout import image_places
from stages.pipeline.params import Dataset, Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed
from stages.reporting.label_page import Picture, label_page

_PAGE_PIXELS = 320


def main(params: Params) -> str:
    images = open_images()
    candidates = unlabeled_candidates(images)
    features, labeled_features = encode(images, params.views.size)
    table = suggest(features[candidates], labeled_features, params.suggest.images, derive_seed(params.seed, "suggest"))
    chosen, files = candidates[table.pop("index")], images.files.get("unlabeled", [])
    table.insert(0, "file" if files else "image", [files[n] for n in chosen] if files else chosen)
    write_csv(table, "data/suggestions.csv")

    line = f"{len(table):,} of {len(candidates):,} images to label next: open plots/label.html"
    if not files:
        counts = zip(chosen, table["stands_for"], strict=True)
        shown = [Picture(f"image {n}", "train", images.unlabeled[n], count) for n, count in counts]
        write_text("plots/label.html", label_page(shown, images.classes, new_table(), None))
        return line
    return "\n".join([line, *write_page(params.dataset, images, table)])


def unlabeled_candidates(images: ImageSet) -> NDArray[np.int64]:
    """Return the indices of the unlabelled images that no table labels for training: those are among them, too."""
    if not images.files:
        return np.arange(len(images.unlabeled))
    known = set(images.files["train"])
    return np.array([n for n, file in enumerate(images.files["unlabeled"]) if file not in known], np.int64)


def encode(images: ImageSet, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the features of the unlabelled and of the training images by the pretrained encoder."""
    _, last_checkpoint = epoch_checkpoints("models/pretrain")[-1]
    device = pick_device()
    encoder = load_encoder(last_checkpoint).to(device)
    unlabeled = extract_all(encoder, images.unlabeled, size, device, "features")
    labeled = extract_all(encoder, images.train, size, device, "features") if len(images.train) else unlabeled[:0]
    return unlabeled, labeled


def write_page(dataset: Dataset, images: ImageSet, table: pd.DataFrame) -> list[str]:
    """Write the page with the suggested images and those set aside for testing, and return what went wrong."""
    root = Path(dataset.path or "")
    wanted = [(file, "train", count) for file, count in zip(table["file"], table["stands_for"], strict=True)]
    wanted += [(file, "test", 0) for file in images.files[SET_ASIDE]]
    pixels, missing = read_pixels(root, [file for file, _, _ in wanted])
    shown = [Picture(file, split, pixels[file], count) for file, split, count in wanted if file in pixels]
    write_text("plots/label.html", label_page(shown, images.classes, read_table(root), root))
    return [f"WARNING: {len(missing):,} images are not on the page: {listed(missing, 10)}"] if missing else []


def read_pixels(root: Path, names: Sequence[str]) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """Return the pixels of images by name, as large as the page shows them, and what cannot be read.

    The names are those of `files.json`, in which signs that cannot be printed are written in another way.
    """
    left_out = defaultdict[str, list[Path]](list)
    paths = {name_below(path, root): path for place in image_places(root) for path in image_files(place, left_out)}
    wanted = {paths[name]: name for name in names if name in paths}
    pixels, missing = dict[str, NDArray[np.uint8]](), [name for name in names if name not in paths]
    for chunk in read_chunks(list(wanted), _PAGE_PIXELS, "page"):
        found = zip(chunk.files, chunk.images, strict=True)
        pixels |= {wanted[file]: image for file, image in found if file not in chunk.broken}
        missing += chunk.broken.values()
    return pixels, missing


if __name__ == "__main__":
    run_stage(main, __doc__)
