"""Output formats with Arrow columns: Parquet and Arrow files. They need pyarrow."""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embergem.bulk.durable_files import ChecksumFile, write_durably
from embergem.bulk.encoder import KEY_BYTES
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import Part, column_names
from embergem.bulk.rows import Column
from embergem.bulk.writers import Describe, FinishedPart, other_columns
from embergem.errors import InvalidText, JobError, UnsupportedOption
from embergem.integrations import missing_package

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise missing_package("pyarrow", "bulk") from error

METADATA = b"embergem"
"""Key of the metadata in the schema of a file."""

KEY = "embergem_key"
"""Column of the keys, by which `--reuse` finds the vectors of unchanged texts."""

GROUP_ROWS = 16_384
"""Rows of a row group of Parquet, and of a record batch of Arrow."""


BATCH_VALUES = 2**16
"""Values that the writer of Parquet takes at a time. With its default of 1,024, vectors take a third longer."""


class ArrowFormat:
    """Base of Parquet and Arrow: makes tables of parts.

    Args:
        options: What the output has.
        keep: Columns of the source that the output has.
        types: Arrow types of these columns; strings where the source has no types.
        dtype: Type of the numbers.
        width: Numbers of a vector.
    """

    def __init__(
        self,
        options: JobOptions,
        keep: Sequence[str],
        types: Mapping[str, Any],
        dtype: np.dtype[Any],
        width: int,
    ) -> None:
        names = column_names(options, keep)
        fixed = {"index": pa.int64(), "chunk": pa.int32(), "chunk_start": pa.int64(), "chunk_end": pa.int64()}
        if options.id is not None:
            del fixed["index"]
        kinds = {**dict.fromkeys(names, pa.string()), **types, **fixed}
        self._columns = pa.schema([(name, kinds[name]) for name in names])
        self._into = options.into
        self._vector = pa.list_(pa.from_numpy_dtype(dtype), width)
        self._dtype = dtype
        self._width = width
        taken = [*names, KEY]
        if options.into in taken or len(set(taken)) < len(taken):
            twice = options.into if options.into in taken else next(name for name in taken if taken.count(name) > 1)
            raise UnsupportedOption(
                f"The output would have two columns called {twice!r}. Choose another name for the vectors with --into, "
                "or leave the column out of --keep.",
                param="into",
            )

    @property
    def schema(self) -> Any:
        """Schema of the output, without metadata."""
        return self._columns.append(pa.field(KEY, pa.binary(KEY_BYTES))).append(pa.field(self._into, self._vector))

    def table(self, part: Part) -> Any:
        """Return a part as a table without its vectors."""
        arrays = [to_arrow(part.columns[field.name], field) for field in self._columns]
        arrays.append(pa.array(part.keys, type=pa.binary(KEY_BYTES)))
        return pa.table(arrays, names=[*self._columns.names, KEY])

    def write_rows(self, file: ChecksumFile, part: Part) -> None:
        """Write the other columns as an Arrow file."""
        table = self.table(part)
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    def assemble(
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the output; see `OutputFormat`."""
        raise NotImplementedError

    def require_appendable(self, output: Path, before: Mapping[str, Any]) -> None:
        """Compare the schemas; see `OutputFormat`."""
        found = self.present_schema(output)
        if not found.equals(self.schema):
            raise other_columns(output, found.names, self.schema.names)

    def present_schema(self, output: Path) -> Any:
        """Return the schema of an output.

        Raises:
            JobError: It is damaged, or of another format.
        """
        raise NotImplementedError

    def description(self, output: Path) -> dict[str, Any] | None:
        """Return the metadata of an existing output; see `OutputFormat`."""
        return metadata_of(self.present_schema(output))

    def with_vectors(self, table: Any, vectors: Any) -> Any:
        """Return a table with the column of the vectors; a row without a key has none."""
        mask = table.column(KEY).is_null().combine_chunks() if table.column(KEY).null_count else None
        numbers = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(numbers, type=self._vector, mask=mask)
        return table.append_column(pa.field(self._into, self._vector), column)

    def present(self, output: Path) -> Iterator[Any]:
        """Yield the rows of an output as tables."""
        raise NotImplementedError

    def rows(self, parts: Iterable[FinishedPart], output: Path, before: Mapping[str, Any] | None) -> Iterator[Any]:
        """Yield the rows of the new output as tables: with `before`, those of the present one first."""
        if before is not None:
            self.require_appendable(output, before)
            for table in self.present(output):
                yield table.replace_schema_metadata(None)
        yield from self.tables(parts)

    def tables(self, parts: Iterable[FinishedPart]) -> Iterator[Any]:
        """Yield the finished parts as tables."""
        for part in parts:
            with pa.OSFile(str(part.columns)) as file, pa.ipc.open_file(file) as reader:
                yield self.with_vectors(reader.read_all(), part.vectors())


class ParquetFormat(ArrowFormat):
    """Parquet: row groups of `GROUP_ROWS`, vectors without compression, other columns with zstd."""

    def assemble(
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the row groups; see `OutputFormat`."""
        names = [name for name in self.schema.names if name != self._into]
        with (
            write_durably(output) as file,
            pq.ParquetWriter(
                file,
                self.schema,
                compression={**dict.fromkeys(names, "zstd"), f"{self._into}.list.element": "none"},
                use_dictionary=self._columns.names,
                write_statistics=self._columns.names,
                store_schema=False,
                write_batch_size=BATCH_VALUES,
            ) as writer,
        ):
            for table in regroup(self.rows(parts, output, before)):
                writer.write_table(table, row_group_size=GROUP_ROWS)
            writer.add_key_value_metadata(parquet_metadata(with_metadata(self.schema, describe())))

    def present(self, output: Path) -> Iterator[Any]:
        """Yield the rows of an output; see `ArrowFormat`."""
        with pq.ParquetFile(output) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)

    def present_schema(self, output: Path) -> Any:
        """Read the schema; see `ArrowFormat`."""
        try:
            return pq.read_schema(output)
        except pa.ArrowException as error:
            raise JobError(f"{output} is no Parquet file: {error}. Name another output, or --overwrite.") from None


class ArrowFileFormat(ArrowFormat):
    """Arrow IPC file, which is Feather version 2: record batches of `GROUP_ROWS`."""

    def assemble(
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the record batches; see `OutputFormat`."""
        schema = with_metadata(self.schema, describe())  # a file begins with its schema
        with write_durably(output) as file, pa.ipc.new_file(file, schema) as writer:
            for table in regroup(self.rows(parts, output, before)):
                writer.write_table(table.replace_schema_metadata(schema.metadata))

    def present(self, output: Path) -> Iterator[Any]:
        """Yield the rows of an output; see `ArrowFormat`."""
        with pa.OSFile(str(output)) as file, pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(number)])

    def present_schema(self, output: Path) -> Any:
        """Read the schema; see `ArrowFormat`."""
        try:
            with pa.OSFile(str(output)) as file, pa.ipc.open_file(file) as reader:
                return reader.schema
        except pa.ArrowException as error:
            raise JobError(f"{output} is no Arrow file: {error}. Name another output, or --overwrite.") from None


def regroup(tables: Iterable[Any]) -> Iterator[Any]:
    """Yield the rows of tables in tables of `GROUP_ROWS` rows, each in one piece."""
    waiting: list[Any] = []
    count = 0
    for table in tables:
        while count + table.num_rows >= GROUP_ROWS:
            head = table.slice(0, GROUP_ROWS - count)
            table = table.slice(GROUP_ROWS - count)
            yield pa.concat_tables([*waiting, head]).combine_chunks()
            waiting, count = [], 0
        if table.num_rows:
            waiting.append(table)
            count += table.num_rows
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def to_arrow(column: Column, field: Any) -> Any:
    """Return a column as an Arrow array of the type of a field.

    Raises:
        InvalidText: A value has another type.
    """
    if not isinstance(column, list):
        return column if column.type == field.type else column.cast(field.type)
    if pa.types.is_string(field.type):
        column = [
            value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
            for value in column
        ]
    try:
        return pa.array(column, type=field.type)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise InvalidText(
            f"The column {field.name!r} has a value that is no {field.type} as in the first rows: {error}. Write the "
            "values of the column as strings, or leave it out of --keep."
        ) from None


def with_metadata(schema: Any, description: Mapping[str, Any]) -> Any:
    """Return a schema with the description of the vectors in its metadata."""
    return schema.with_metadata({METADATA: msgspec.json.encode(dict(description))})


def parquet_metadata(schema: Any) -> dict[bytes, bytes]:
    """Return what pyarrow writes into the footer of a Parquet file for a schema with metadata.

    pyarrow would write it if it had the metadata before the first row.
    """
    return {**schema.metadata, b"ARROW:schema": base64.b64encode(schema.serialize())}


def metadata_of(schema: Any) -> dict[str, Any] | None:
    """Return the description in the metadata of a schema; None if there is none."""
    data = (schema.metadata or {}).get(METADATA)
    return None if data is None else msgspec.json.decode(data, type=dict[str, Any])
