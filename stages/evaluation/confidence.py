"""What a confidence is worth: how many images reach it, and how many test images that reach it are correct."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.evaluation.accuracy import correct, format_interval, wilson_interval

THRESHOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)


def confidence_table(confidence: NDArray[np.float64], predictions: pd.DataFrame | None) -> pd.DataFrame:
    """Count the images above several thresholds of confidence, and score the test images above them.

    Args:
        confidence: (N,) confidence of the images that were classified.
        predictions: Test predictions of the same classifier; None if they are not known.

    Returns:
        One row per threshold: `threshold`, the number of `images` with at least this confidence and their `share`; and
        of the test images with at least this confidence, if they are known, their number, the `accuracy` and the ends
        `low` and `high` of its 95 % Wilson interval. What no image gives is NaN.
    """
    rows = []
    for threshold in THRESHOLDS:
        above = int((confidence >= threshold).sum())
        row: dict[str, float] = {"threshold": threshold, "images": above, "share": above / max(1, len(confidence))}
        if predictions is not None:
            hits = correct(predictions[predictions["confidence"] >= threshold])
            low, high = wilson_interval(int(hits.sum()), len(hits)) if len(hits) else (np.nan, np.nan)
            accuracy = float(hits.mean()) if len(hits) else np.nan
            row |= {"test_images": len(hits), "accuracy": accuracy, "low": low, "high": high}
        rows.append(row)
    return pd.DataFrame(rows).round(6)


def describe_confidence(table: pd.DataFrame) -> str:
    """Format the table of `confidence_table` for the screen."""
    columns = {
        "confidence": ["any", *(f"at least {threshold:g}" for threshold in table["threshold"][1:])],
        "images": [f"{count:,}" for count in table["images"]],
        "share": [f"{share:.0%}" for share in table["share"]],
    }
    if "accuracy" in table:
        rows = table[["accuracy", "low", "high"]].to_numpy(float)
        columns["of such test images correct (95 % CI)"] = [
            "-" if np.isnan(accuracy) else format_interval(accuracy, low, high) for accuracy, low, high in rows
        ]
    return str(pd.DataFrame(columns).to_string(index=False))
