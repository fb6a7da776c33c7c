"""Names of the methods, and what the stages that train them have written."""

from typing import NotRequired, TypedDict, cast

import pandas as pd

from stages.pipeline.files import read_json, require

TITLES = {
    "supervised": "Supervised",
    "probe": "Linear probe",
    "fine_tune": "Fine-tuned",
    "semi_supervised": "Semi-supervised",
}
METHODS = tuple(TITLES)
TRAINING_TITLES = {
    "supervised": TITLES["supervised"],
    "pretrain": "Barlow Twins pretraining",
    "fine_tune": TITLES["fine_tune"],
    "semi_supervised": TITLES["semi_supervised"],
}


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


def read_cost(stage: str) -> TrainingCost:
    """Read the cost of a training run, `metrics/cost/<stage>.json`.

    Raises:
        UserError: The file is missing or damaged.
    """
    return cast(TrainingCost, read_json(f"metrics/cost/{stage}.json", stage))
