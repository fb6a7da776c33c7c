"""Small results on disk: metrics as JSON, curves and predictions as CSV."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.files import replacing, require, write_json
from stages.learning.evaluation import wilson
from stages.learning.training import Trained

METHODS = ("supervised", "probe", "semi_supervised")
TITLES = {"supervised": "Supervised", "probe": "Linear probe", "semi_supervised": "Semi-supervised"}


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table without its index, whole or not at all."""
    with replacing(path) as aside:
        table.to_csv(aside, index=False, lineterminator="\n")


def record_training(stage: str, trained: Trained) -> None:
    """Write a training's curve, `plots/history/<stage>.csv`, and its cost, `metrics/cost/<stage>.json`."""
    write_csv(pd.DataFrame(trained.history).round(6), f"plots/history/{stage}.csv")
    write_json(f"metrics/cost/{stage}.json", trained.cost)


def score(predicted: pd.DataFrame, labels: int) -> dict[str, object]:
    """Accuracy of test predictions with its 95 % interval, and on how many images of each kind it rests."""
    right = int((predicted["actual"] == predicted["predicted"]).sum())
    return {
        "accuracy": round(right / len(predicted), 6),
        "ci95": [round(end, 6) for end in wilson(right, len(predicted))],
        "labels": labels,
        "test_images": len(predicted),
    }


def record_predictions(method: str, predicted: pd.DataFrame, labels: int, **more: object) -> str:
    """Write `plots/predictions/<method>.csv` and `metrics/<method>.json`; return the line of result."""
    metrics = score(predicted, labels)
    write_csv(predicted, f"plots/predictions/{method}.csv")
    write_json(f"metrics/{method}.json", metrics | more)
    return f"{describe(metrics)} of {metrics['test_images']:,} test images right, with {labels:,} labels"


def describe(metrics: dict) -> str:
    """An accuracy and its interval in words."""
    low, high = metrics["ci95"]
    return f"{metrics['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def read_predictions(method: str) -> pd.DataFrame:
    """The test predictions that the stage `method` wrote."""
    return pd.read_csv(
        require(f"plots/predictions/{method}.csv", method),
        dtype={"actual": str, "predicted": str},
        keep_default_na=False,
    )


def read_history(stage: str) -> pd.DataFrame:
    """The training curve that `stage` wrote."""
    return pd.read_csv(require(f"plots/history/{stage}.csv", stage))


def efficiency_table(study: dict[float, dict]) -> pd.DataFrame:
    """Accuracy against labels, one row per ratio and method, fewest labels first.

    Args:
        study: ratio to the content of `metrics/study/<ratio>.json`.

    Returns:
        columns `ratio`, `labels`, `method`, `accuracy`, `low`, `high`, `seeds`; the interval is Wilson's for one draw of
        labels, and the mean plus and minus two standard errors over several.
    """
    rows = []
    for ratio, methods in sorted(study.items()):
        for method, found in methods.items():
            share, seeds = found["accuracy"], found["seeds"]
            if seeds == 1:
                low, high = wilson(round(share * found["test_images"]), found["test_images"])
            else:
                error = 2 * found["std"] / seeds**0.5
                low, high = share - error, share + error
            rows.append(
                {
                    "ratio": ratio,
                    "labels": found["labels"],
                    "method": method,
                    "accuracy": share,
                    "low": round(low, 6),
                    "high": round(high, 6),
                    "seeds": seeds,
                }
            )
    return pd.DataFrame(rows)


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
