"""Suggest which images to label next: data/suggestions.csv, the most useful first."""

import numpy as np

from stages.labeling.suggestions import suggest
from stages.models.batches import to_device
from stages.models.checkpoints import epoch_checkpoints, load_encoder
from stages.models.device import pick_device
from stages.models.features import extract_all, extract_features
from stages.pipeline.files import read_array, write_csv
from stages.pipeline.image_set import open_images
from stages.pipeline.params import Params
from stages.pipeline.runner import run_stage
from stages.pipeline.seeds import derive_seed


def main(params: Params) -> str:
    images, labeled = open_images(), read_array("data/labeled.npy", "label", np.int64)
    _, last_checkpoint = epoch_checkpoints("models/pretrain")[-1]
    size, device = params.views.size, pick_device()
    encoder = load_encoder(last_checkpoint).to(device)

    # Images that a table labels for training are among the unlabelled ones, too.
    known = set(images.files["train"]) if images.files else set()
    files = images.files.get("unlabeled", [])
    candidates = np.array([n for n in range(len(images.unlabeled)) if not files or files[n] not in known], np.int64)
    features = extract_all(encoder, images.unlabeled, size, device, "features")[candidates]
    labeled_features = extract_features(encoder, to_device(images.train, labeled, device), size)

    table = suggest(features, labeled_features, params.suggest.images, derive_seed(params.seed, "suggest"))
    chosen = candidates[table.pop("index")]
    table.insert(0, "file" if files else "image", [files[n] for n in chosen] if files else chosen)
    write_csv(table, "data/suggestions.csv")
    return f"{len(table):,} of {len(candidates):,} images to label next: see data/suggestions.csv"


if __name__ == "__main__":
    run_stage(main, __doc__)
