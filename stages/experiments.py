"""Compare finished experiments: a table, and a figure if the varied parameter is a number.

dvc exp show --csv | python -m stages.experiments unlabeled.size plots/unlabeled.png
dvc exp show --csv | python -m stages.experiments Experiment
"""

import argparse
import sys
from typing import TextIO

import pandas as pd
from matplotlib.figure import Figure

from stages.evaluation.accuracy import METHODS, format_interval, wilson_interval
from stages.pipeline.errors import UserError
from stages.reporting.figures.comparison import accuracy_lines
from stages.reporting.figures.style import save_figure
from stages.reporting.records import TITLES


def read_experiments(csv: TextIO, column: str) -> pd.DataFrame:
    """Read the accuracy of every method in every experiment.

    Args:
        csv: Output of `dvc exp show --csv`.
        column: Name of a column of it: a parameter, or `Experiment` for the names of the experiments (a commit is named
            by its branch).

    Returns:
        One row per experiment and method, in the order of `value`, the content of `column`: further columns are
        `method`, `accuracy`, `low` and `high` (ends of the 95 % Wilson interval) and `labels`. Of experiments with the
        same `value`, the first is used. A parameter that is null is `all` for `unlabeled.size`, otherwise `null`.

    Raises:
        UserError: There is no table, no such column, or no experiment with results (DVC prints `!` for those it cannot
            read).
    """
    try:
        table = pd.read_csv(csv, dtype={"Experiment": "str"})
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise UserError("the input holds no table: check what `dvc exp show --csv` prints") from error
    if column not in table:
        raise UserError(f"{column} is not a column of `dvc exp show --csv`: name a parameter, or Experiment")
    table["Experiment"] = table["Experiment"].fillna(table["rev"])
    table = table[table["rev"] != "workspace"].drop_duplicates(column)
    values = [_shown(value, column) for value in table[column]]

    rows = []
    for method in METHODS:
        results = pd.DataFrame({key: _metric(table, method, key) for key in ("accuracy", "test_images", "labels")})
        for value, result in zip(values, results.to_dict("records"), strict=True):
            accuracy, total = result["accuracy"], result["test_images"]
            if pd.notna(accuracy):
                low, high = wilson_interval(round(accuracy * total), int(total))
                rows.append([value, method, accuracy, low, high, int(result["labels"])])
    if not rows:
        raise UserError("no experiment with results is listed: run one with `dvc exp run` first")
    found = pd.DataFrame(rows, columns=["value", "method", "accuracy", "low", "high", "labels"])
    values_of = found["value"].to_dict()
    order = sorted(found.index, key=lambda row: (isinstance(values_of[row], str), values_of[row]))
    return found.loc[order].reset_index(drop=True)


def _metric(table: pd.DataFrame, method: str, key: str) -> "pd.Series[float]":
    """Return a metric of a method in every experiment, by the name that it has now or had in earlier versions.

    DVC also names the file where experiments of both are in the table.
    """
    names = (f"{method}.{key}", f"metrics/{method}.json:{method}.{key}", f"metrics/{method}.json:{key}")
    found = table.reindex(columns=list(names)).apply(pd.to_numeric, errors="coerce")
    first: pd.Series[float] = found.bfill(axis="columns")[names[0]]
    return first


def _shown(value: float | str, column: str) -> float | str:
    if pd.isna(value):
        return "all" if column == "unlabeled.size" else "null"
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_markdown(experiments: pd.DataFrame, column: str) -> str:
    """Return the table of `read_experiments` as Markdown, one row per experiment.

    Args:
        experiments: Result of `read_experiments`.
        column: Title of the first column, which names the experiments.
    """
    intervals = zip(experiments["accuracy"], experiments["low"], experiments["high"], strict=True)
    table = experiments.assign(
        method=experiments["method"].map(TITLES), text=[format_interval(*interval) for interval in intervals]
    )
    wide = table.pivot(index="value", columns="method", values="text")[[TITLES[method] for method in METHODS]]
    return wide.rename_axis(column).reset_index().to_markdown(index=False)


def axis_figure(experiments: pd.DataFrame, column: str) -> Figure:
    """Draw accuracy against a numeric parameter, one line per method, with 95 % intervals over test images.

    Args:
        experiments: Result of `read_experiments`.
        column: Name of the parameter.
    """
    fewest, most = experiments["labels"].min(), experiments["labels"].max()
    title = f"{fewest:,} visible labels" if fewest == most else f"{fewest:,} to {most:,} visible labels"
    scale = " (logarithmic scale)" if pd.api.types.is_numeric_dtype(experiments["value"]) else ""
    return accuracy_lines(experiments.rename(columns={"value": column}), column, f"{column}{scale}", title)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("column", help="parameter that the experiments vary, or Experiment for their names")
    parser.add_argument("figure", nargs="?", help="PNG file to draw; the parameter must be a number")
    arguments = parser.parse_args()
    try:
        experiments = read_experiments(sys.stdin, arguments.column)
        if arguments.figure:
            if not any(isinstance(value, int | float) for value in experiments["value"]):
                raise UserError(f"{arguments.column} is not a number and cannot be an axis: leave out the figure")
            save_figure(axis_figure(experiments, arguments.column), arguments.figure)
        print(as_markdown(experiments, arguments.column))
    except UserError as error:
        sys.exit(f"experiments: {error}")


if __name__ == "__main__":
    main()
