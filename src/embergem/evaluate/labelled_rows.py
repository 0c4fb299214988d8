"""Reads the rows of labelled files: CSV, JSON lines and plain lines, with the line of each row for errors."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embergem.errors import InvalidText, UnsupportedOption
from embergem.suggestions import did_you_mean

Row = tuple[int, dict[str, Any]]
"""Number of a line, and the values of its columns or fields."""


def read_rows(path: Path, suffixes: Sequence[str]) -> Iterator[Row]:
    """Yield (line number, values) for each row of a CSV file, of JSON lines or of plain lines (.txt).

    A plain line has the one column "text". Blank lines are skipped.

    Raises:
        InvalidText: A row cannot be read.
        UnsupportedOption: The file cannot be read, or its suffix is not among `suffixes`.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise UnsupportedOption(
            f"{path}: files with the suffix {suffix!r} are not read. Write the data to one of: {', '.join(suffixes)}."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")  # a byte order mark is no part of the first column
    except OSError as error:
        raise UnsupportedOption(f"{path} cannot be read: {error.strerror}. Check the path.") from None
    except UnicodeDecodeError as error:
        raise InvalidText(f"{path} is not valid UTF-8 at byte {error.start}. Convert it to UTF-8 first.") from None
    if suffix in (".csv", ".tsv"):
        yield from _csv_rows(text, path, "," if suffix == ".csv" else "\t")
        return
    for number, line in enumerate(text.split("\n"), start=1):  # other separators of str.splitlines belong to the text
        if line.strip():
            yield number, {"text": line.removesuffix("\r")} if suffix == ".txt" else _json_row(line, number, path)


def text_of(row: Row, column: str, path: Path) -> str:
    """Return the text in a column of a row.

    Raises:
        InvalidText: The row has no text there.
    """
    line, values = row
    value = values.get(column)
    if not isinstance(value, str):
        advice = did_you_mean(column, values) if column not in values else ""
        raise InvalidText(f"{path}, line {line}: has no text in {column!r}.{advice} Each row needs one.")
    return value


def whole_number(row: Row, column: str, path: Path) -> int:
    """Return the relevance in a column of a row.

    Raises:
        InvalidText: The row has no whole number there.
    """
    number = number_of(row, column, path)
    if number != int(number):
        raise InvalidText(
            f"{path}, line {row[0]}: the relevance {number:g} in {column!r} is not a whole number. Use 0 for a "
            "document that is not relevant, 1 for a relevant one, and 2 or more for degrees of relevance."
        )
    return int(number)


def number_of(row: Row, column: str, path: Path) -> float:
    """Return the number in a column of a row.

    Raises:
        InvalidText: The row has no finite number there.
    """
    line, values = row
    value = values.get(column)
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)  # type: ignore[arg-type]  # None is a TypeError, which is caught
        if math.isfinite(number):
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidText(f"{path}, line {line}: the value {value!r} in {column!r} is not a finite number.") from None


def _csv_rows(text: str, path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # of the whole process: never make it smaller
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if None in row:
                raise InvalidText(
                    f"{path}, line {reader.line_num}: has more values than the header has columns. Put quotes around a "
                    "value that contains the separator."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InvalidText(
            f"{path}, line {reader.line_num}: cannot be read as CSV: {error}. Repair the line, or write JSON lines "
            "(.jsonl)."
        ) from None


def _json_row(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InvalidText(f"{path}, line {number}: is no JSON: {error}. Write one object on each line.") from None
    if not isinstance(value, dict):
        raise InvalidText(f"{path}, line {number}: is a JSON {type(value).__name__}, not an object with named fields.")
    return value
