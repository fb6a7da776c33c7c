"""Set finished experiments side by side: a table, and a chart where what they vary is a number.

dvc exp show --csv | python -m stages.reporting.experiments unlabeled.size plots/unlabeled.png
dvc exp show --csv | python -m stages.reporting.experiments Experiment
"""

import argparse
import sys
from typing import TextIO

import pandas as pd
from matplotlib.figure import Figure

from stages.files import UserError
from stages.reporting.figures import accuracy_lines, save_figure
from stages.reporting.records import METHODS, TITLES, wilson


def read_experiments(csv: TextIO, column: str) -> pd.DataFrame:
    """Accuracy of every method in every experiment.

    Args:
        csv: what `dvc exp show --csv` prints.
        column: of it, a parameter or `Experiment`, the names; what was committed is named by its branch.

    Returns:
        columns `value` (of `column`), `method`, `accuracy`, `low`, `high` (Wilson), `labels`, one row per experiment and method,
        in the order of `value`; of experiments alike in `value`, the first.

    Raises:
        UserError: there is no table, no such column, or no experiment in it with results (`!` stands for those that DVC cannot read).
    """
    try:
        table = pd.read_csv(csv, dtype={"Experiment": str})
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise UserError("no table came in: see what `dvc exp show --csv` says by itself") from error
    if column not in table:
        raise UserError(f"{column} is not a column of `dvc exp show --csv`: name a parameter, or Experiment")
    table["Experiment"] = table["Experiment"].fillna(table["rev"])
    table = table[table["rev"] != "workspace"]
    rows = []
    for _, experiment in table.dropna(subset=[column]).drop_duplicates(column).iterrows():
        for method in METHODS:
            keys = [f"metrics/{method}.json:{key}" for key in ("accuracy", "test_images", "labels")]
            share, total, labels = pd.to_numeric(experiment.reindex(keys), errors="coerce")
            if pd.notna(share):
                low, high = wilson(round(share * total), int(total))
                rows.append([experiment[column], method, share, low, high, int(labels)])
    if not rows:
        raise UserError("no experiment with results is listed: run some with `dvc exp run` first")
    found = pd.DataFrame(rows, columns=["value", "method", "accuracy", "low", "high", "labels"])
    return found.sort_values("value", kind="stable", ignore_index=True)


def as_markdown(found: pd.DataFrame, column: str) -> str:
    """What `read_experiments` returned as a Markdown table, one row per experiment."""
    texts = [f"{row.accuracy:.1%} ({row.low:.1%} to {row.high:.1%})" for row in found.itertuples()]
    table = found.assign(method=found["method"].map(TITLES), text=texts)
    wide = table.pivot(index="value", columns="method", values="text")[[TITLES[m] for m in METHODS]]
    return wide.rename_axis(column).reset_index().to_markdown(index=False)


def axis_figure(found: pd.DataFrame, column: str) -> Figure:
    """Accuracy against a numeric parameter, one line per method, with 95 % intervals over test images."""
    labels = sorted(found["labels"].unique())
    title = f"{labels[0]:,} visible labels" if len(labels) == 1 else f"{labels[0]:,} to {labels[-1]:,} visible labels"
    return accuracy_lines(found.rename(columns={"value": column}), column, f"{column} (logarithmic scale)", title)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.reporting.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("column", help="a parameter that the experiments vary, or Experiment for their names")
    parser.add_argument("figure", nargs="?", help="PNG to draw; the parameter must be a number")
    arguments = parser.parse_args()
    try:
        found = read_experiments(sys.stdin, arguments.column)
        if arguments.figure:
            if not pd.api.types.is_numeric_dtype(found["value"]):
                raise UserError(
                    f"{arguments.column} is not a number, so there is no axis to draw: leave the figure out"
                )
            save_figure(axis_figure(found, arguments.column), arguments.figure)
        print(as_markdown(found, arguments.column))
    except UserError as error:
        sys.exit(f"experiments: {error}")


if __name__ == "__main__":
    main()
