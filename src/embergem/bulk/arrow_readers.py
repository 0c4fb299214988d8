"""Readers of Parquet and Arrow files, and of Arrow tables in memory, by batches. They need pyarrow."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embergem.bulk.rows import RowBatch
from embergem.bulk.text_readers import BATCH_ROWS, Selection, missing_column, not_utf8, unreadable
from embergem.errors import InvalidText, UnsupportedOption
from embergem.integrations import missing_package

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise missing_package("pyarrow", "bulk") from error


class ArrowReader:
    """Base of the readers of Arrow data: checks the schema and makes `RowBatch`es of record batches."""

    name: str
    schema: Any

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.schema.names)

    def check(self, selection: Selection) -> None:
        """Refuse missing columns, and texts or titles that are no strings."""
        for name in selection.names:
            if name not in self.columns:
                raise missing_column(self.name, name, self.columns, selection)
            if self.columns.count(name) > 1:
                raise UnsupportedOption(f"{self.name} has several columns called {name!r}. Rename all but one.")
        used = {"column": selection.text} | ({"title": selection.title} if selection.title else {})
        for option, name in used.items():
            kind = self.schema.field(name).type
            if pa.types.is_nested(kind):
                raise UnsupportedOption(
                    f"{self.name}: the column {name!r} is nested ({kind}). Write the texts to a column of strings, or "
                    f"name another column with --{option}.",
                    param=option,
                )
            if not is_text(kind):
                raise UnsupportedOption(
                    f"{self.name}: the column {name!r} has the type {kind}, and texts are strings. Name a column of "
                    f"strings with --{option}.",
                    param=option,
                )

    def types(self, selection: Selection) -> dict[str, Any] | None:
        """Return the types of the columns to keep."""
        return {name: self.schema.field(name).type for name in selection.keep}

    def read(self, selection: Selection, skip: int) -> Iterator[RowBatch]:
        """Yield the rows; see `text_readers.Reader`."""
        place = skip
        for record_batch in self._guarded(selection.names, skip):
            for start in range(0, record_batch.num_rows, BATCH_ROWS):
                part = record_batch.slice(start, BATCH_ROWS)
                batch = self._batch(part, selection, place)
                place += len(batch)
                yield batch

    def _guarded(self, names: Sequence[str], skip: int) -> Iterator[Any]:
        try:
            yield from self._record_batches(names, skip)
        except (pa.ArrowException, ValueError) as error:
            raise damaged(self.name, error) from None
        except OSError as error:
            raise damaged(self.name, error) if error.errno is None else unreadable(self.name, error) from None

    def _record_batches(self, names: Sequence[str], skip: int) -> Iterator[Any]:
        """Yield record batches with the columns `names`, after the first `skip` rows."""
        raise NotImplementedError

    def _batch(self, part: Any, selection: Selection, place: int) -> RowBatch:
        texts, bad = _texts(part.column(selection.text))
        for index, text in enumerate(texts) if part.column(selection.text).null_count else ():
            if text is None and index not in bad:
                bad[index] = ("null", f"is null in the column {selection.text!r}.")
        titles = None
        if selection.title is not None:
            titles, bad_titles = _texts(part.column(selection.title))
            bad |= {index: problem for index, problem in bad_titles.items() if index not in bad}
            for index in bad_titles:
                texts[index] = None
        columns = {name: part.column(name) for name in selection.keep}
        return RowBatch(place, self.name, "row", range(place, place + part.num_rows), texts, titles, columns, bad)


def is_text(kind: Any) -> bool:
    """Whether values of an Arrow type are strings, or bytes that may be."""
    types = pa.types
    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _texts(column: Any) -> tuple[list[str | None], dict[int, tuple[str, str]]]:
    """Return the strings of a column, and the values that are not UTF-8."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not is_bytes:
        try:
            return column.to_pylist(), {}
        except UnicodeDecodeError:
            column = column.cast(pa.large_string()).cast(pa.large_binary()) if kind != column.type else column
            column = column.cast(pa.large_binary())
    texts: list[str | None] = []
    bad: dict[int, tuple[str, str]] = {}
    for index, value in enumerate(column.to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError as error:
            texts.append(None)
            bad[index] = not_utf8(error)
    return texts, bad


def damaged(name: str, error: Exception) -> InvalidText:
    """Return the error for a file that pyarrow cannot read."""
    reason = str(error).strip().splitlines()[0].rstrip(".")
    return InvalidText(f"{name} is damaged or not complete: {reason}. Write or copy the file again.")


class ParquetReader(ArrowReader):
    """A Parquet file. The schema and the number of rows are read when the reader is made.

    Raises:
        InvalidText: The file is no complete Parquet file.
        UnsupportedOption: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        with self._open() as file:
            self.schema = file.schema_arrow
            self.row_count = file.metadata.num_rows

    def _open(self) -> Any:
        try:
            return pq.ParquetFile(self._path)
        except pa.ArrowException as error:
            raise damaged(self.name, error) from None
        except OSError as error:
            raise damaged(self.name, error) if error.errno is None else unreadable(self.name, error) from None

    def _record_batches(self, names: Sequence[str], skip: int) -> Iterator[Any]:
        with self._open() as file:
            groups = list(range(file.num_row_groups))
            while groups and file.metadata.row_group(groups[0]).num_rows <= skip:
                skip -= file.metadata.row_group(groups.pop(0)).num_rows
            if not groups:
                return
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(names)):
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                yield batch.slice(skip)
                skip = 0


class ArrowFileReader(ArrowReader):
    """An Arrow IPC file (Feather version 2) or an Arrow stream in a file.

    Raises:
        InvalidText: The file is neither.
        UnsupportedOption: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._is_stream = False
        try:
            with pa.memory_map(self.name) as mapped:
                self._is_stream = mapped.read(6) != b"ARROW1"
            with pa.OSFile(self.name) as file, self._open(file) as reader:
                self.schema = reader.schema
        except pa.ArrowException as error:
            raise damaged(self.name, error) from None
        except OSError as error:
            raise damaged(self.name, error) if error.errno is None else unreadable(self.name, error) from None

    def _open(self, file: Any) -> Any:
        return pa.ipc.open_stream(file) if self._is_stream else pa.ipc.open_file(file)

    def _record_batches(self, names: Sequence[str], skip: int) -> Iterator[Any]:
        with pa.OSFile(self.name) as file, self._open(file) as reader:
            count = None if self._is_stream else reader.num_record_batches
            batches = iter(reader) if count is None else (reader.get_batch(number) for number in range(count))
            for batch in batches:
                if skip >= batch.num_rows:
                    skip -= batch.num_rows
                    continue
                yield batch.select(list(names)).slice(skip)
                skip = 0


class ArrowTableReader(ArrowReader):
    """Arrow data of the caller: a table, a dataset, a record batch reader, or anything with an Arrow C stream.

    Args:
        source: The data.
        name: Its name in errors.

    Attributes:
        repeatable: Whether the rows can be read more than once.

    Raises:
        TypeError: `source` is no Arrow data.
    """

    def __init__(self, source: Any, name: str = "the table") -> None:
        self.name = name
        self.repeatable = True
        if isinstance(source, pa.RecordBatch):
            source = pa.Table.from_batches([source])
        if isinstance(source, pa.Table) or hasattr(source, "scanner"):
            self.schema = source.schema
        elif isinstance(source, pa.RecordBatchReader) or hasattr(source, "__arrow_c_stream__"):
            if not isinstance(source, pa.RecordBatchReader):
                source = pa.RecordBatchReader.from_stream(source)
            self.schema = source.schema
            self.repeatable = False
        else:
            raise TypeError(f"{type(source).__name__} is no Arrow data.")
        self._source = source

    def _record_batches(self, names: Sequence[str], skip: int) -> Iterator[Any]:
        names = list(names)
        if isinstance(self._source, pa.Table):
            batches = iter(self._source.select(names).to_batches(BATCH_ROWS))
        elif isinstance(self._source, pa.RecordBatchReader):
            batches = (batch.select(names) for batch in self._source)
        else:
            batches = iter(self._source.scanner(columns=names, batch_size=BATCH_ROWS).to_reader())
        for batch in batches:
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield batch.slice(skip)
            skip = 0
