"""Small results on disk: metrics as JSON, curves and predictions as CSV."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from stages.files import replacing, require

TITLES = {
    "supervised": "Supervised",
    "probe": "Linear probe",
    "fine_tune": "Fine-tuned",
    "semi_supervised": "Semi-supervised",
}
METHODS = tuple(TITLES)
_FORMULAE = ("=", "+", "-", "@", "\t", "\r")


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table without its index, whole or not at all.

    A text that a spreadsheet would run as a formula gets an apostrophe before it, which spreadsheets take for a sign of plain text.
    """
    texts = table.select_dtypes(exclude="number").columns
    guarded = table.assign(**{name: table[name].map(_guarded) for name in texts})
    with replacing(path) as aside:
        guarded.to_csv(aside, index=False, lineterminator="\n")


def _guarded(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith((*_FORMULAE, "'")) else cell


def score(predicted: pd.DataFrame, labels: int) -> dict[str, object]:
    """Accuracy of test predictions with its 95 % interval, and on how many images of each kind it rests."""
    right = int((predicted["actual"] == predicted["predicted"]).sum())
    return {
        "accuracy": round(right / len(predicted), 6),
        "ci95": [round(end, 6) for end in wilson(right, len(predicted))],
        "labels": labels,
        "test_images": len(predicted),
    }


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent test images (Wilson 1927)."""
    interval = binomtest(right, total).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def describe(metrics: dict) -> str:
    """An accuracy and its interval in words."""
    low, high = metrics["ci95"]
    return f"{metrics['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def read_predictions(method: str) -> pd.DataFrame:
    """The test predictions that the stage `method` wrote."""
    table = pd.read_csv(
        require(f"plots/predictions/{method}.csv", method),
        dtype={"actual": str, "predicted": str},
        keep_default_na=False,
    )
    names = ["actual", "predicted"]
    return table.assign(**{column: table[column].str.removeprefix("'") for column in names})


def read_history(stage: str) -> pd.DataFrame:
    """The training curve that `stage` wrote."""
    return pd.read_csv(require(f"plots/history/{stage}.csv", stage))


def layouts_table(
    layouts: dict[int, NDArray[np.float32]], labels: NDArray[np.int64], classes: tuple[str, ...]
) -> pd.DataFrame:
    """Every point of every layout: columns `epoch`, `image`, `x`, `y`, `label`."""
    names = np.array(classes, object)[labels]
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "epoch": epoch,
                    "image": np.arange(len(names)),
                    "x": layout[:, 0].round(4),
                    "y": layout[:, 1].round(4),
                    "label": names,
                }
            )
            for epoch, layout in layouts.items()
        ]
    )
