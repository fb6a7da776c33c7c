"""What the stages have written: predictions, training curves, costs, embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NotRequired

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typing_extensions import TypedDict

from stages.pipeline.files import read_array, read_json, require, unescape_formula

TITLES = {
    "supervised": "Supervised",
    "probe": "Linear probe",
    "fine_tune": "Fine-tuned",
    "semi_supervised": "Semi-supervised",
}
TRAINING_TITLES = {
    "supervised": TITLES["supervised"],
    "pretrain": "Barlow Twins pretraining",
    "fine_tune": TITLES["fine_tune"],
    "semi_supervised": TITLES["semi_supervised"],
}


class CopyCounts(TypedDict):
    """Numbers of copies: exact and near ones, those left out, and those of an image with another class."""

    exact: int
    near: int
    left_out: int
    other_class: int


class DataSummary(TypedDict):
    """What is in the image set, as in `metrics/data.json`.

    Attributes:
        train: Number of training images.
        test: Number of test images.
        unlabeled: Number of unlabelled images.
        set_aside: Number of images that wait for a label to test with.
        classes: Number of images of each class for training (`train`) and testing (`test`).
        left_out: Number of files that were left out, by reason.
        copies: Numbers of copies.
    """

    train: int
    test: int
    unlabeled: int
    set_aside: int
    classes: dict[str, dict[str, int]]
    left_out: dict[str, int]
    copies: CopyCounts


class TrainingCost(TypedDict):
    """Cost of one training run, as in `metrics/cost/<stage>.json`.

    Attributes:
        seconds: Duration of training, including compilation.
        images_per_second: Throughput.
        peak_memory_mib: Peak memory in MiB.
        device: Name of the device.
        torch: Version of PyTorch.
        compiled: Whether views and loss were compiled; pretraining only.
    """

    seconds: float
    images_per_second: float
    peak_memory_mib: float
    device: str
    torch: str
    compiled: NotRequired[bool]


class StudyCost(TypedDict):
    """Cost of the study at one label ratio, as in `metrics/cost/study/<ratio>.json`.

    Attributes:
        seconds: Duration of all trainings of each method.
        seeds: Number of draws, each of which trains every method once.
        device: Name of the device.
        torch: Version of PyTorch.
    """

    seconds: dict[str, float]
    seeds: int
    device: str
    torch: str


class Distances(TypedDict):
    """Median cosine distances of features to the nearest training image, as in `metrics/embed.json`.

    Attributes:
        unlabeled_distance: Distance of the unlabelled images.
        test_distance: Distance of the test images.
    """

    unlabeled_distance: float
    test_distance: float


@dataclass(frozen=True)
class Embeddings:
    """Features of the same N training images at every checkpoint.

    Attributes:
        images: (N,) indices of the training images.
        labels: (N,) class numbers.
        features: (N, D) features at each epoch.
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    features: dict[int, NDArray[np.float32]]


def read_embeddings() -> Embeddings:
    """Read `data/embeddings/`.

    Raises:
        UserError: A file is missing or damaged.
    """
    directory = require("data/embeddings", "embed")
    epochs = sorted(int(path.stem) for path in directory.glob("*.npy") if path.stem.isdigit())
    return Embeddings(
        read_array(directory / "images.npy", "embed", np.int64),
        read_array(directory / "labels.npy", "embed", np.int64),
        {epoch: read_array(directory / f"{epoch}.npy", "embed", np.float32) for epoch in epochs},
    )


def read_predictions(method: str) -> pd.DataFrame:
    """Read the test predictions of a method, `plots/predictions/<method>.csv`.

    Returns:
        One row per test image: class names `actual` and `predicted`, and `confidence` in 0..1.

    Raises:
        UserError: The file is missing.
    """
    names = ["actual", "predicted"]
    path = require(f"plots/predictions/{method}.csv", method)
    table = pd.read_csv(path, dtype=dict.fromkeys(names, "str"), keep_default_na=False)
    # `write_csv` escapes names that a spreadsheet would execute.
    return table.assign(**{column: table[column].str.removeprefix("'") for column in names})


def read_history(stage: str) -> pd.DataFrame:
    """Read the training curve of a stage, `plots/history/<stage>.csv`: step or epoch, then the loss and its terms.

    Raises:
        UserError: The file is missing.
    """
    return pd.read_csv(require(f"plots/history/{stage}.csv", stage))


def read_representation() -> pd.DataFrame:
    """Read the metrics of the representation, `plots/representation.csv`, one row per checkpoint.

    Raises:
        UserError: The file is missing.
    """
    return pd.read_csv(require("plots/representation.csv", "embed"))


def read_distances() -> Distances:
    """Read how far test and unlabelled images are from the training images, in `metrics/embed.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read_json("metrics/embed.json", "embed", Distances)


def read_data() -> tuple[DataSummary, pd.DataFrame]:
    """Read what is in the image set, and the table of copies.

    Raises:
        UserError: A file is missing or damaged.
    """
    summary = read_json("metrics/data.json", "download", DataSummary)
    copies = pd.read_csv(require("data/copies.csv", "download"), dtype=str, keep_default_na=False)
    return summary, copies.map(unescape_formula)


def read_cost(stage: str) -> TrainingCost:
    """Read the cost of a training run, `metrics/cost/<stage>.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read_json(f"metrics/cost/{stage}.json", stage, TrainingCost)


def read_study_cost(ratio: float) -> StudyCost:
    """Read the cost of the study at a label ratio, `metrics/cost/study/<ratio>.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read_json(f"metrics/cost/study/{ratio}.json", "study", StudyCost)


def method_seconds(seconds: Mapping[str, float], *, from_random: bool) -> dict[str, float]:
    """Return the duration of training of each method, that of pretraining included where it builds on it.

    Args:
        seconds: Duration of each training run. Fitting the linear probe is not in it; it takes seconds.
        from_random: Whether semi-supervised training starts from random weights.
    """
    pretraining = seconds["pretrain"]
    return {
        "supervised": seconds["supervised"],
        "probe": pretraining,
        "fine_tune": pretraining + seconds["fine_tune"],
        "semi_supervised": seconds["semi_supervised"] + (0 if from_random else pretraining),
    }
