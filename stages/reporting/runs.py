"""Whole runs of the pipeline: the scores of the one in this directory, and what is kept of those with other seeds."""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypedDict

from stages.evaluation.accuracy import METHODS, Score, StudyResult, correct
from stages.pipeline.errors import UserError
from stages.pipeline.files import read_json
from stages.pipeline.image_set import ImageSet
from stages.pipeline.params import Leaf
from stages.reporting.records import TRAINING_TITLES, read_cost, read_predictions

SEEDS = Path("metrics/seeds.json")

# Parameters that change nothing of what `PipelineRun` holds.
_IRRELEVANT = ("seed", "embed.", "tsne.", "predict.", "suggest.", "study.")


class PipelineRun(TypedDict):
    """What is kept of a whole pipeline with one seed, in `metrics/seeds.json`.

    Attributes:
        seed: The parameter `seed`.
        labels: Number of visible labels.
        test_images: Number of test images.
        hits: For each method which test images it classifies correctly, one bit each, packed and in base64.
        study: Accuracy of each method at further numbers of labels.
        seconds: Duration of each training run.
        device: Name of the device.
        torch: Version of PyTorch.
    """

    seed: int
    labels: int
    test_images: int
    hits: dict[str, str]
    study: dict[int, dict[str, float]]
    seconds: dict[str, float]
    device: str
    torch: str


class Setting(TypedDict):
    """Runs that differ in their seed alone.

    Attributes:
        parameters: The parameters that they share, by dotted name.
        images: Result of `images_checksum`.
        runs: The runs.
    """

    parameters: dict[str, Leaf]
    images: str
    runs: list[PipelineRun]


def setting_parameters(parameters: Mapping[str, Leaf]) -> dict[str, Leaf]:
    """Return the parameters that runs with different seeds share."""
    return {name: value for name, value in parameters.items() if not name.startswith(_IRRELEVANT)}


def images_checksum(images: ImageSet) -> str:
    """Return a checksum of an image set that runs with different seeds share; empty for generated ones."""
    if images.source == "shapes":
        return ""
    return hashlib.sha256(" ".join(images.checksums[name] for name in sorted(images.checksums)).encode()).hexdigest()


def find_runs(settings: Sequence[Setting], parameters: Mapping[str, Leaf], images: ImageSet) -> list[PipelineRun]:
    """Return the runs with these parameters and images and any seed, in the order of their seeds."""
    shared, checksum = setting_parameters(parameters), images_checksum(images)
    same = [s for s in settings if s["parameters"] == shared and s["images"] == checksum]
    return sorted((run for setting in same for run in setting["runs"]), key=lambda run: run["seed"])


def read_run(seed: int, label_ratios: Sequence[float]) -> PipelineRun:
    """Collect what a finished pipeline in the present directory leaves of a seed.

    Args:
        seed: The parameter `seed` that it was run with.
        label_ratios: The parameter `study.label_ratios`.

    Raises:
        UserError: A file is missing or damaged.
    """
    scores = {method: read_score(method) for method in METHODS}
    costs = {stage: read_cost(stage) for stage in TRAINING_TITLES}
    studies = [read_study(ratio) for ratio in label_ratios]
    return {
        "seed": seed,
        "labels": scores["supervised"]["labels"],
        "test_images": scores["supervised"]["test_images"],
        "hits": {method: _packed(correct(read_predictions(method))) for method in METHODS},
        "study": {study["supervised"]["labels"]: accuracies(study) for study in studies},
        "seconds": {stage: cost["seconds"] for stage, cost in costs.items()},
        "device": costs["pretrain"]["device"],
        "torch": costs["pretrain"]["torch"],
    }


def accuracies(results: Mapping[str, Score] | Mapping[str, StudyResult]) -> dict[str, float]:
    """Return the accuracy of each method."""
    return {method: result["accuracy"] for method, result in results.items()}


def unpacked_hits(runs: Sequence[PipelineRun]) -> dict[str, NDArray[np.bool_]]:
    """Return for each method whether each of K runs is correct on each of N test images, (K, N)."""
    return {
        method: np.stack([_unpacked(run["hits"][method], run["test_images"]) for run in runs]) for method in METHODS
    }


def _packed(hits: NDArray[np.bool_]) -> str:
    return b64encode(np.packbits(hits).tobytes()).decode()


def _unpacked(text: str, count: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(b64decode(text), np.uint8), count=count).astype(bool)


def read_score(method: str) -> Score:
    """Read the score of a method, `metrics/<method>.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = f"metrics/{method}.json"
    scores = read_json(path, method, dict[str, Score])
    if method not in scores:
        raise UserError(f"{path} is damaged ({method}: missing): run `dvc repro {method}` again")
    return scores[method]


def read_study(ratio: float) -> dict[str, StudyResult]:
    """Read the study at a label ratio, `metrics/study/<ratio>.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read_json(f"metrics/study/{ratio}.json", "study", dict[str, StudyResult])


def read_settings() -> list[Setting]:
    """Read `metrics/seeds.json`, which `make seeds` writes; without it there are no runs with other seeds.

    Raises:
        UserError: The file is damaged.
    """
    if not SEEDS.exists():
        return []
    try:
        return read_json(SEEDS, "compare", list[Setting])
    except UserError as error:
        raise UserError(f"{SEEDS} is damaged: restore it by git, or write [] into it and run `make seeds`") from error
