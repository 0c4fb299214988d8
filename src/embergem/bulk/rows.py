"""Rows of a source on their way to vectors: `RowBatch` before the model has read them, and `Problem` for a bad row.

A column is a list of Python values where the rows come from a text file, and an Arrow array where they come from Arrow
or Parquet. `take` and `to_list` treat both alike, so that no reader needs pyarrow for text files.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

SHOWN_PLACES = 8
"""Places of bad rows of one kind that a message lists."""

Column = Any
"""A list of Python values, or a `pyarrow.Array`."""


class Problem(msgspec.Struct, frozen=True):
    """A row that was not embedded as it is, for the report.

    Attributes:
        row: Number of the row in the job, from 0, over all files.
        file: The file, or another name of the source.
        place: Where the row is in the file, such as "line 3".
        kind: "null", "not_utf8", "not_text", "no_value", "not_json", "too_long", "truncated" or "chunked".
        detail: What is wrong with the row, or what was done with it.
    """

    row: int
    file: str
    place: str
    kind: str
    detail: str


class ProblemCounts:
    """Counts problems by their kind, and keeps the first places of each."""

    def __init__(self) -> None:
        self.kinds: dict[str, tuple[int, list[str]]] = {}

    def add(self, problem: Problem) -> None:
        """Count a problem."""
        count, places = self.kinds.get(problem.kind, (0, []))
        if count < SHOWN_PLACES:
            places.append(problem.place)
        self.kinds[problem.kind] = (count + 1, places)


class Position(NamedTuple):
    """A place between two rows of a source.

    Attributes:
        row: Number in the job of the next row.
        file: Number of the file that has the next row.
        file_row: Number of the next row in this file.
    """

    row: int = 0
    file: int = 0
    file_row: int = 0


class RowBatch(msgspec.Struct):
    """Consecutive rows of one file.

    Attributes:
        file_row: Number in the file of the first row, from 0.
        file: The file, or another name of the source.
        unit: What `places` counts: "line" for text files, "row" for others.
        places: Place in the file of each row.
        texts: Text of each row; None where the row has none, and then `bad` has an entry.
        titles: Title of each row, or None if no titles were asked for.
        columns: The columns to keep, each with one value a row.
        bad: Kind and description of each bad row, by its index in the batch.
        first_row: Number in the job of the first row; `Source` sets it.
        file_number: Number of the file in the job; `Source` sets it.
        bytes_read: Bytes of all files that were read up to this batch; None where that is not known.
    """

    file_row: int
    file: str
    unit: str
    places: Sequence[int]
    texts: list[str | None]
    titles: list[str | None] | None
    columns: dict[str, Column]
    bad: dict[int, tuple[str, str]]
    first_row: int = 0
    file_number: int = 0
    bytes_read: int | None = None

    @property
    def end(self) -> Position:
        """The place after the last row."""
        return Position(self.first_row + len(self), self.file_number, self.file_row + len(self))

    def __len__(self) -> int:
        return len(self.texts)

    def problem(self, index: int, kind: str, detail: str) -> Problem:
        """Return the problem of the row at `index`, with its place."""
        return Problem(self.first_row + index, self.file, f"{self.unit} {self.places[index]}", kind, detail)

    def part(self, start: int, stop: int | None = None) -> "RowBatch":
        """Return the rows from index `start` to before index `stop`; None is the end."""
        stop = len(self) if stop is None else stop
        return RowBatch(
            self.file_row + start,
            self.file,
            self.unit,
            self.places[start:stop],
            self.texts[start:stop],
            None if self.titles is None else self.titles[start:stop],
            {name: column[start:stop] for name, column in self.columns.items()},
            {index - start: bad for index, bad in self.bad.items() if start <= index < stop},
            self.first_row + start,
            self.file_number,
            self.bytes_read,
        )


def take(column: Column, indices: Sequence[int]) -> Column:
    """Return the values of a column at `indices`, in this order."""
    if isinstance(column, list):
        return [column[index] for index in indices]
    return column.take(np.asarray(indices, dtype=np.int64))


def to_list(column: Column) -> list[Any]:
    """Return a column as a list of Python values."""
    return column if isinstance(column, list) else column.to_pylist()


def concatenate(columns: Sequence[Column]) -> Column:
    """Return the values of several columns of one kind as one column."""
    if len(columns) == 1:
        return columns[0]
    if isinstance(columns[0], list):
        return [value for column in columns for value in column]
    import pyarrow as pa

    return pa.concat_arrays(columns)
