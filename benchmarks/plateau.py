"""How accuracy grows with the steps of each method, on training images whose labels are hidden.

python -m benchmarks.plateau shapes                     # the images and the encoder of the last `dvc repro`
python -m benchmarks.plateau shapes --methods fine_tune --draws 1

Each point is a training of its own with that many steps, on a draw of visible labels of the study. Test images are not
read. The encoder is that of models/pretrain, and params.yaml has to be the preset. Results go to
benchmarks/results/plateau-<preset>.json, one point at a time, so that an interrupted run goes on; table and figure show
all points so far.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from typing_extensions import TypedDict

from stages.images.subsets import draw_labeled, unlabeled_pool
from stages.images.views import view_recipe
from stages.methods.linear_probe import train_probe
from stages.methods.semi_supervised import train_semi_supervised
from stages.methods.supervised import train_supervised
from stages.models.batches import ImagePool, to_device, visible_images
from stages.models.checkpoints import epoch_checkpoints, load_encoder, load_projector
from stages.models.device import machine_fingerprint, pick_device
from stages.models.encoders import Classifier, build_classifier
from stages.models.features import extract_features
from stages.pipeline.errors import UserError
from stages.pipeline.files import checksum, read_array, read_json, write_json
from stages.pipeline.image_set import ImageSet, open_images
from stages.pipeline.params import Params, load_params
from stages.pipeline.scratch import file_lock
from stages.pipeline.seeds import derive_seed
from stages.reporting.figures.style import METHOD_COLOURS, METHOD_MARKERS, new_panels, save_figure
from stages.reporting.records import TITLES

RESULTS = Path("benchmarks/results")
SCRATCH = Path(".scratch/plateau")
METHODS = ("supervised", "fine_tune", "semi_supervised")
FACTORS = (0.25, 0.5, 1.0, 2.0)


class Point(TypedDict):
    """Accuracy after a training.

    Attributes:
        method: Name of the method.
        draw: Number of the draw of visible labels.
        steps: Number of steps of the training.
        accuracy: Accuracy on the training images whose label is hidden.
        images: Number of these images.
    """

    method: str
    draw: int
    steps: int
    accuracy: float
    images: int


class Plateau(TypedDict):
    """Content of a results file.

    Attributes:
        machine: Device, instruction set, precision and version of PyTorch.
        inputs: Checksum of parameters, images and encoder; points of others are dropped.
        steps: Number of steps of each method in the preset.
        points: Accuracy after each training.
    """

    machine: str
    inputs: str
    steps: dict[str, int]
    points: list[Point]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plateau", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", help="name of a file in presets/, which params.yaml equals")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="methods to train")
    parser.add_argument("--draws", type=int, default=3, help="draws of visible labels (default: 3)")
    arguments = parser.parse_args()
    try:
        params = preset_params(arguments.preset)
        with file_lock("plateau"):
            results = measure(params, arguments.preset, arguments.methods, arguments.draws)
    except UserError as error:
        sys.exit(f"plateau: {error}")
    save_figure(plateau_figure(results), RESULTS / f"plateau-{arguments.preset}.png")
    print(plateau_table(results).to_markdown(index=False))


def preset_params(preset: str) -> Params:
    """Return the parameters of the project.

    Raises:
        UserError: They are not those of the preset.
    """
    params = load_params()
    if params != load_params(f"presets/{preset}.yaml"):
        raise UserError(f"params.yaml is not presets/{preset}.yaml: copy it, and run `dvc repro`")
    return params


def measure(params: Params, preset: str, methods: Sequence[str], draws: int) -> Plateau:
    """Train what is missing, and write every point as soon as it is there."""
    path = RESULTS / f"plateau-{preset}.json"
    set_steps = {
        "supervised": params.supervised.steps,
        "fine_tune": params.fine_tune.steps,
        "semi_supervised": params.semi_supervised.steps,
    }
    if params.label_ratio == 1:
        raise UserError("label_ratio is 1, so no label is hidden: lower it")
    encoder = checksum(epoch_checkpoints("models/pretrain")[-1][1], "sha256")
    images = open_images()
    described = json.dumps([params.flat(), images.checksums, encoder], sort_keys=True)
    inputs = hashlib.sha256(described.encode()).hexdigest()
    results: Plateau = {"machine": machine_fingerprint(), "inputs": inputs, "steps": set_steps, "points": []}
    if path.exists():
        kept = read_json(path, "supervised", Plateau)
        same = (kept["machine"], kept["inputs"]) == (results["machine"], inputs)
        results = kept if same else results
    shutil.rmtree(SCRATCH, ignore_errors=True)

    for draw in range(1, draws + 1):
        for method in methods:
            for steps in [round(set_steps[method] * factor) for factor in FACTORS]:
                if any((p["method"], p["draw"], p["steps"]) == (method, draw, steps) for p in results["points"]):
                    continue
                accuracy, count = train_and_test(params, images, method, steps, draw)
                point = Point(method=method, draw=draw, steps=steps, accuracy=round(accuracy, 6), images=count)
                results["points"].append(point)
                write_json(path, results)
                print(f"{method}, draw {draw}, {steps:,} steps: {accuracy:.1%}", file=sys.stderr, flush=True)
    return results


def train_and_test(params: Params, images: ImageSet, method: str, steps: int, draw: int) -> tuple[float, int]:
    """Train a method for some steps, and return its accuracy on hidden training labels and the number of these."""
    labeled = draw_labeled(images.train_labels, params.label_ratio, params.seed, draw, images.folds)
    model = train(params, images, labeled, method, steps, draw)
    hidden = np.setdiff1d(np.arange(len(images.train)), labeled)
    device = next(model.parameters()).device
    logits = extract_features(model, to_device(images.train, hidden, device), params.views.size)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    return float((logits.argmax(1) == images.train_labels[hidden]).mean()), len(hidden)


def train(
    params: Params, images: ImageSet, labeled: NDArray[np.int64], method: str, steps: int, draw: int
) -> Classifier:
    """Train a method as the study does, but for the number of steps."""
    device, changed = pick_device(), {"steps": steps}
    visible = visible_images(images, labeled, device)
    weak, strong = (view_recipe(params.views.size, section) for section in (params.views.weak, params.views.strong))
    seed = derive_seed(params.seed, method, draw)
    if method == "supervised":
        encoder, weights_seed = params.encoder, derive_seed(params.seed, "supervised weights", draw)
        start = build_classifier(encoder.name, encoder.stem, len(images.classes), weights_seed, encoder.weights)
        settings = params.supervised.model_copy(update=changed)
        return train_supervised(start, visible, method, strong, settings, seed, SCRATCH)[0]

    encoder_file = epoch_checkpoints("models/pretrain")[-1][1]
    probe_seed = derive_seed(params.seed, "probe", draw)
    probe, _ = train_probe(load_encoder(encoder_file), visible, weak, params.probe, probe_seed)
    if method == "fine_tune":
        settings = params.fine_tune.model_copy(update=changed)
        return train_supervised(probe, visible, method, strong, settings, seed, SCRATCH)[0]

    sample = read_array("data/unlabeled.npy", "sample", np.int64)
    return train_semi_supervised(
        probe,
        load_projector("models/pretrain/projector.safetensors"),
        visible,
        ImagePool(unlabeled_pool(images.unlabeled, sample, images.train, labeled), device),
        params.views,
        params.semi_supervised.model_copy(update=changed),
        params.pretrain.redundancy_weight,
        seed,
        SCRATCH,
    )[0]


def plateau_table(results: Plateau) -> pd.DataFrame:
    """Return the mean accuracy of each method at the preset's steps and around them, and what doubling them gains.

    Means are over draws for which all numbers of steps are measured that are measured at all; a dash stands for others.
    """
    points = pd.DataFrame(results["points"])
    rows = []
    for method in points["method"].unique():
        steps = results["steps"][method]
        accuracies = points[points["method"] == method].pivot(index="draw", columns="steps", values="accuracy")
        columns = [round(steps * factor) for factor in FACTORS]
        accuracies = accuracies[[column for column in columns if column in accuracies]].dropna()
        means = [f"{accuracies[column].mean():.1%}" if column in accuracies else "–" for column in columns]
        is_known = {steps, 2 * steps} <= set(accuracies)
        gain = f"{100 * (accuracies[2 * steps] - accuracies[steps]).mean():+.1f}" if is_known else "–"
        rows.append([TITLES[method], f"{steps:,}", len(accuracies), *means, gain])
    names = ["a quarter", "half", "the preset's steps", "twice"]
    return pd.DataFrame(rows, columns=["method", "steps", "draws", *names, "doubling gains (points)"])


def plateau_figure(results: Plateau) -> Figure:
    """Draw accuracy over steps, a panel for each method and a line for each draw."""
    points = pd.DataFrame(results["points"])
    methods = list(points["method"].unique())
    figure, panels = new_panels(len(methods), 4.6, 3.2)
    for axes, method in zip(panels, methods, strict=True):
        for _, rows in points[points["method"] == method].groupby("draw"):
            ordered = rows.sort_values("steps")
            axes.plot(
                ordered["steps"],
                ordered["accuracy"],
                color=METHOD_COLOURS[method],
                marker=METHOD_MARKERS[method],
                linewidth=1.4,
            )
        axes.axvline(results["steps"][method], color="0.6", linewidth=1)
        ticks = sorted(points.loc[points["method"] == method, "steps"].unique())
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(title=TITLES[method], xlabel="steps", ylabel="accuracy on hidden labels", ylim=(0, 1))
    figure.suptitle("A line for each draw of labels; grey: the preset's number of steps")
    return figure


if __name__ == "__main__":
    main()
