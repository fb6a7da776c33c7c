"""Are suggested images better to label than random ones? The linear probe after labels for either, on test images.

python -m benchmarks.suggestions       # the images and the encoder of the last `dvc repro`

Labels are those of training images: suggested ones, random ones, and random ones with as many of each class, which a
person who has no labels cannot draw. Each draw has its own clustering or its own random images. Results go to
benchmarks/results/suggestions-<source>.json.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from stages.images.subsets import draw_labeled
from stages.images.views import view_recipe
from stages.labeling.suggestions import suggest
from stages.methods.linear_probe import train_probe
from stages.models.batches import LabeledImages, to_device
from stages.models.checkpoints import epoch_checkpoints, load_encoder
from stages.models.device import machine_fingerprint, pick_device
from stages.models.encoders import Encoder
from stages.models.features import extract_features
from stages.pipeline.errors import UserError
from stages.pipeline.files import write_json
from stages.pipeline.image_set import ImageSet, open_images
from stages.pipeline.params import Params, load_params
from stages.pipeline.progress import progress
from stages.pipeline.seeds import derive_seed

RESULTS = Path("benchmarks/results")
CHOICES = ("suggested", "random", "random, stratified")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suggestions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 20, 40, 80], help="numbers of labels")
    parser.add_argument("--draws", type=int, default=10, help="number of draws of each (default: 10)")
    arguments = parser.parse_args()
    try:
        accuracies = measure(load_params(), open_images(), arguments.labels, arguments.draws)
    except UserError as error:
        sys.exit(f"suggestions: {error}")
    about = {"machine": machine_fingerprint(), "draws": arguments.draws, "test_images": len(open_images().test)}
    path = RESULTS / f"suggestions-{open_images().source}.json"
    write_json(path, about | {"accuracy": accuracies})
    print(accuracy_table(json.loads(path.read_text())["accuracy"]).to_markdown(index=False))


def measure(params: Params, images: ImageSet, numbers: list[int], draws: int) -> dict[str, dict[str, list[float]]]:
    """Return the accuracy after each draw, by choice and number of labels."""
    device, size = pick_device(), params.views.size
    encoder = load_encoder(epoch_checkpoints("models/pretrain")[-1][1]).to(device)
    features = extract_features(encoder, to_device(images.train, None, device), size)
    test_features = extract_features(encoder, to_device(images.test, None, device), size)
    found: dict[str, dict[str, list[float]]] = {choice: {str(n): [] for n in numbers} for choice in CHOICES}
    for draw in progress(range(draws), title="suggestions", unit="draw"):
        for count in numbers:
            for choice in CHOICES:
                chosen = choose(choice, features, images.train_labels, count, derive_seed(params.seed, choice, draw))
                accuracy = probe_accuracy(params, images, encoder, chosen, test_features)
                found[choice][str(count)].append(round(accuracy, 6))
    return found


def choose(
    choice: str, features: NDArray[np.float32], labels: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """Return the training images whose labels are asked for."""
    if choice == "suggested":
        return np.sort(suggest(features, features[:0], count, seed)["index"].to_numpy(np.int64))
    if choice == "random":
        return np.sort(np.random.default_rng(seed).permutation(len(labels))[:count])
    return draw_labeled(labels, count / len(labels), seed)


def probe_accuracy(
    params: Params, images: ImageSet, encoder: Encoder, chosen: NDArray[np.int64], test_features: NDArray[np.float32]
) -> float:
    """Return the test accuracy of a linear probe; classes that no chosen image has are never predicted."""
    present, labels = np.unique(images.train_labels[chosen], return_inverse=True)
    if len(present) == 1:
        return float((images.test_labels == present[0]).mean())
    device, recipe = pick_device(), view_recipe(params.views.size, params.views.weak)
    known = LabeledImages(to_device(images.train, chosen, device), torch.from_numpy(labels).to(device))
    model, _ = train_probe(encoder, known, recipe, params.probe, params.seed)
    weight, bias = (value.detach().cpu().numpy() for value in (model.head.weight, model.head.bias))
    return float((present[(test_features @ weight.T + bias).argmax(1)] == images.test_labels).mean())


def accuracy_table(accuracies: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Return the mean and the standard deviation over draws, a row for each number of labels."""
    rows = []
    for count in accuracies[CHOICES[0]]:
        draws = {choice: np.array(accuracies[choice][count]) for choice in CHOICES}
        texts = {choice: f"{values.mean():.1%} ± {100 * values.std(ddof=1):.1f}" for choice, values in draws.items()}
        rows.append({"labels": count, **texts})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
