"""Labels in a table, labels.csv: one row an image, with its file, its class and optionally its split."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from stages.images.sources.listing import printable
from stages.pipeline.errors import UserError
from stages.pipeline.files import unescape_formula
from stages.pipeline.layout import LABELS

_FILE_COLUMNS = ("picture", "file")
_DELIMITERS = ",;\t"


class LabelRow(NamedTuple):
    """One row of the table.

    Attributes:
        number: Number of the line in the file, from 1.
        file: File of the image, relative to the folder.
        label: Name of the class; empty if the image has no label.
        split: `train`, `test`, or empty.
        cells: Text of each column as it stands in the table, by the column's name.
    """

    number: int
    file: str
    label: str
    split: str
    cells: dict[str, str]


class LabelTable(NamedTuple):
    """A table of labels as it stands, so that rows can be changed and added.

    Attributes:
        columns: Names of the columns; one of them is `split`.
        delimiter: Sign between columns.
        rows: Text of each column, row by row.
        labels: File, class and split of each row, as they are understood.
    """

    columns: list[str]
    delimiter: str
    rows: list[list[str]]
    labels: list[tuple[str, str, str]]


def read_labels(root: Path, files: Iterable[Path]) -> dict[Path, LabelRow]:
    """Read the table of labels of a folder, `labels.csv`.

    Args:
        root: Folder that holds the table.
        files: Image files below the folder that the table may name.

    Returns:
        The row of each file that has one, in the order of the files.

    Raises:
        UserError: The table is no CSV in UTF-8, lacks a column, names another file, or gives one image two classes or
            splits. The message names the row.
    """
    table = root / LABELS
    known = {normal_name(path.relative_to(root).as_posix()): path for path in files}
    rows: dict[Path, LabelRow] = {}
    for row in read_rows(table):
        path = known.get(normal_name(row.file)) or known.get(normal_name(row.file.strip()))
        if path is None:
            raise UserError(f"{table}, row {row.number}: there is no unlabelled image {row.file!r} in {root}")
        first = rows.setdefault(path, row)
        if (first.label, first.split) != (row.label, row.split):
            raise UserError(
                f"{table}, row {row.number}: {row.file!r} is {row.label!r}{row.split and ' for '}{row.split}, but row "
                f"{first.number} says {first.label!r}{first.split and ' for '}{first.split}: remove one of them"
            )
    return {path: rows[path] for path in known.values() if path in rows}


def read_table(root: Path) -> LabelTable:
    """Read the table of labels of a folder, or start one.

    Args:
        root: Folder that may hold the table.

    Raises:
        UserError: The table is wrong; see `read_rows`.
    """
    path = root / LABELS
    if not path.is_file():
        return new_table()
    rows = list(read_rows(path))
    reader = _open_table(path)
    columns = list(dict.fromkeys([*(name.strip() for name in reader.fieldnames or []), "split"]))
    cells = [[row.cells.get(column, "") for column in columns] for row in rows]
    labels = [(normal_name(row.file), row.label, row.split) for row in rows]
    return LabelTable(columns, reader.reader.dialect.delimiter, cells, labels)


def new_table() -> LabelTable:
    """Return a table without rows."""
    return LabelTable([_FILE_COLUMNS[0], "class", "split"], _DELIMITERS[0], [], [])


def read_rows(table: Path) -> Iterator[LabelRow]:
    """Yield the rows of a table of labels; columns are separated by commas, semicolons or tabs.

    Raises:
        UserError: The table is no CSV in UTF-8, lacks a column, or has an unknown split. The message names the row.
    """
    reader = _open_table(table)
    try:
        columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        file_column = next((name for name in _FILE_COLUMNS if name in columns), None)
        if file_column is None or "class" not in columns:
            raise UserError(f"{table}, row 1: its columns are {columns}, but picture and class are needed")
        for cells in reader:
            more = cells.pop(None, [])
            if not any(cells.values()):
                continue
            if any(more):
                raise UserError(f"{table}, row {reader.line_num}: it has more cells than there are columns")
            split = cells.get("split", "").strip().lower()
            if split not in ("", "train", "test"):
                raise UserError(f"{table}, row {reader.line_num}: split is {split!r}: it must be train, test or empty")
            file, label = (unescape_formula(cells[name]) for name in (file_column, "class"))
            yield LabelRow(reader.line_num, file, _composed(label.strip()), split, cells)
    except csv.Error as error:
        raise UserError(f"{table}, row {reader.reader.line_num}: {error}") from error


def _open_table(table: Path) -> "csv.DictReader[str]":
    content = table.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        raise UserError(f"{table}, row {row}: it is not in UTF-8: save the table as CSV in UTF-8") from error
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", strict=True)


def normal_name(name: str) -> str:
    """Return a file name as it is compared: printable, composed, with forward slashes, and without `./`."""
    return _composed(printable(name)).replace("\\", "/").removeprefix("./")


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
