"""Readers of text files with records: JSON lines, CSV and TSV. They need no pyarrow.

Rows that have no valid text are marked as bad and not refused here: `JobOptions.on_error` decides what becomes of them.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from embergem.bulk.rows import RowBatch
from embergem.bulk.text_readers import (
    BATCH_BYTES,
    BATCH_ROWS,
    MAX_HEADER,
    MAX_LINE,
    LineFile,
    Parsed,
    Selection,
    missing_column,
)
from embergem.errors import InvalidText, UnsupportedOption
from embergem.suggestions import did_you_mean


class TableReader:
    """Base of the readers that make rows out of records: `_records` yields (place, record)."""

    name: str
    _file: LineFile

    @property
    def bytes_read(self) -> int:
        """Bytes of the file that were read."""
        return self._file.bytes_read

    def _batches(
        self,
        records: Iterator[tuple[int, Any]],
        pick: Callable[[Any], tuple[Parsed, str | None, tuple[Any, ...]]],
        selection: Selection,
        skip: int,
    ) -> Iterator[RowBatch]:
        """Yield batches of records; `pick` returns the text, the title and the values to keep of a record."""
        row = size = 0
        batch = self._empty(selection, skip)
        for place, record in records:
            row += 1
            if row <= skip:
                continue
            (text, bad), title, kept = pick(record)
            if bad is not None:
                batch.bad[len(batch.texts)] = bad
            batch.texts.append(text)
            batch.places.append(place)  # type: ignore[attr-defined]  # `_empty` made it a list
            if batch.titles is not None:
                batch.titles.append(title)
            for name, value in zip(selection.keep, kept, strict=True):
                batch.columns[name].append(value)
            size += len(text or "")
            if len(batch.texts) == BATCH_ROWS or size >= BATCH_BYTES:
                yield batch
                batch, size = self._empty(selection, row), 0
        if batch.texts:
            yield batch

    def _empty(self, selection: Selection, file_row: int) -> RowBatch:
        titles: list[str | None] | None = [] if selection.title else None
        return RowBatch(file_row, self.name, "line", [], [], titles, {name: [] for name in selection.keep}, {})


class JsonLinesReader(TableReader):
    """JSON lines: objects with a field for the text, or JSON strings. Blank lines are no rows."""

    def __init__(self, path: Path | None, name: str) -> None:
        self.name = name
        self._file = LineFile(path, name)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Fields of the first line; None if it is a string."""
        first = next(self._records(), None)
        return tuple(first[1]) if first is not None and isinstance(first[1], dict) else None

    def check(self, selection: Selection) -> None:
        """Refuse a file whose first line has no such fields. Lines that are no JSON are bad rows."""
        first = next(self._records(), None)
        if first is None or not isinstance(first[1], dict):
            return
        for name in selection.names:
            if name not in first[1] and name != selection.text:  # without a text, the first line is a bad row
                raise missing_column(self.name, name, list(first[1]), selection)

    def types(self, selection: Selection) -> dict[str, Any] | None:
        """Return the Arrow types of the columns to keep, as the first rows have them; mixed ones are kept as JSON."""
        import pyarrow as pa

        columns: dict[str, list[Any]] = {name: [] for name in selection.keep}
        for number, (_, record) in enumerate(self._records()):
            if number == BATCH_ROWS:
                break
            for name, values in columns.items():
                values.append(record.get(name) if isinstance(record, dict) else None)
        return {name: _json_type(pa, values) for name, values in columns.items()}

    def read(self, selection: Selection, skip: int) -> Iterator[RowBatch]:
        """Yield the rows; see `Reader`."""
        text_name, title_name, keep = selection.text, selection.title, selection.keep

        def pick(record: Any) -> tuple[Parsed, str | None, tuple[Any, ...]]:
            if isinstance(record, _NotJson):
                return (
                    (None, ("not_json", f"is no JSON: {record.reason}. Write one value on each line.")),
                    None,
                    _NULLS * len(keep),
                )
            if not isinstance(record, dict):
                kept = tuple(record if name == text_name else None for name in keep)
                return _text_or_bad(record, record, text_name), None, kept
            title = record.get(title_name) if title_name else None
            kept = tuple([record.get(name) for name in keep])
            parsed = _text_or_bad(record.get(text_name), record, text_name)
            if title is not None and not isinstance(title, str):
                parsed = (None, ("not_text", f"has no text in the field {title_name!r} of the title."))
                title = None
            return parsed, title, kept

        yield from self._batches(self._records(), pick, selection, skip)

    def _records(self) -> Iterator[tuple[int, Any]]:
        number = 0
        decode = msgspec.json.decode
        for lines in self._file.blocks():
            for line in lines:
                number += 1
                try:
                    yield number, decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    if line.strip():
                        yield number, _parse_json(line)


_NULLS: tuple[Any, ...] = (None,)


class _NotJson(msgspec.Struct):
    """A line that is no JSON, and why."""

    reason: str


def _parse_json(line: bytes) -> Any:
    """Return the value of a line that msgspec refuses: NaN and lone surrogates are JSON to Python."""
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        return _NotJson(f"it is not valid UTF-8 at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return _NotJson(str(error))


def _text_or_bad(value: Any, record: Any, name: str) -> Parsed:
    if isinstance(value, str):
        if value.isascii() or is_unicode(value):
            return value, None
        return None, ("not_utf8", "has a lone surrogate, which is no character. Replace it first.")
    if value is None and isinstance(record, dict) and name in record:
        return None, ("null", f"is null in the field {name!r}.")
    advice = did_you_mean(name, record) if isinstance(record, dict) and name not in record else ""
    return None, (
        "not_text",
        f"has no text in the field {name!r}.{advice} Name the field with --column, or write each text as a JSON "
        "string.",
    )


def is_unicode(text: str) -> bool:
    """Whether a string has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_type(pa: Any, values: list[Any]) -> Any:
    """Return the Arrow type of values of JSON; string for nested and mixed ones, which are kept as JSON."""
    try:
        found = pa.array(
            [value for value in values if value is not None]
        ).type  # unlike infer_type, it refuses mixtures
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.string()
    simple = pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_boolean(found)
    return found if simple else pa.string()


class CsvReader(TableReader):
    """CSV and TSV with a header line. All values are strings."""

    def __init__(self, path: Path | None, name: str, delimiter: str) -> None:
        self.name = name
        self._file = LineFile(path, name)
        self._delimiter = delimiter
        self._columns: tuple[str, ...] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names in the header; none for an empty file."""
        if self._columns is None:
            header = next(self._records(MAX_HEADER), None)
            self._columns = () if header is None else tuple(header[1])
        return self._columns

    def check(self, selection: Selection) -> None:
        """Refuse columns that the header does not have, or has twice."""
        for name in selection.names if self.columns else ():
            if name not in self.columns:
                raise missing_column(self.name, name, self.columns, selection)
            if self.columns.count(name) > 1:
                raise UnsupportedOption(
                    f"{self.name} has {self.columns.count(name)} columns called {name!r}. Rename all but one.",
                    param="column",
                )

    def types(self, selection: Selection) -> dict[str, Any] | None:
        """Return None: all values are strings."""
        return None

    def read(self, selection: Selection, skip: int) -> Iterator[RowBatch]:
        """Yield the rows; see `Reader`."""
        if not self.columns:
            return
        text_at = self.columns.index(selection.text)
        title_at = self.columns.index(selection.title) if selection.title else None
        keep_at = [self.columns.index(name) for name in selection.keep]

        def pick(record: list[str]) -> tuple[Parsed, str | None, tuple[Any, ...]]:
            count = len(record)
            kept = tuple([record[at] if at < count else None for at in keep_at])
            title = record[title_at] if title_at is not None and title_at < count else None
            if text_at >= count:
                return (None, ("no_value", f"has no value in the column {selection.text!r}.")), title, kept
            text = record[text_at]
            if text.isascii() or is_unicode(text):
                return (text, None), title, kept
            return (None, ("not_utf8", "is not valid UTF-8. Convert the file to UTF-8 first.")), title, kept

        records = self._records()
        next(records, None)
        yield from self._batches(records, pick, selection, skip)

    def _records(self, max_line: int = MAX_LINE) -> Iterator[tuple[int, list[str]]]:
        """Yield (line at which the record ends, values). Bytes that are not UTF-8 become lone surrogates."""
        csv.field_size_limit(MAX_LINE)
        lines = (
            line.decode(errors="surrogateescape") + "\n" for block in self._file.blocks(max_line) for line in block
        )
        rows = csv.reader(lines, delimiter=self._delimiter)
        while True:
            try:
                record = next(rows, None)
            except csv.Error as error:
                raise InvalidText(
                    f"{self.name}, line {rows.line_num}: is no {'TSV' if self._delimiter == chr(9) else 'CSV'}: "
                    f"{error}. Check the quotes before this line."
                ) from None
            if record is None:
                return
            if record:
                yield rows.line_num, record
