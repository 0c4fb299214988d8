"""Output format of a NumPy file, with the ids beside it. It needs no pyarrow."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from embergem.bulk.durable_files import ChecksumFile, write_durably
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import Part
from embergem.bulk.rows import to_list
from embergem.bulk.writers import (
    COPY_BYTES,
    Describe,
    FinishedPart,
    copy_file,
    copy_lines,
    cut_off,
    read_description,
    remove_description,
    write_description,
)
from embergem.errors import JobError, UnsupportedOption


class NumpyFormat:
    """A NumPy file (rows, width), and the ids or row numbers in a second file, `corpus.npy.ids.jsonl`, where needed.

    The metadata is in a file `corpus.npy.json`. Rows without a vector are NaN, so they need a form with NaN.
    """

    def __init__(self, options: JobOptions, dtype: np.dtype[Any], width: int) -> None:
        if options.on_error == "null" and dtype.kind != "f":
            raise UnsupportedOption(
                f"A .npy file of {options.output_dtype} has no value for a row without a vector. Use --on-error skip, "
                "or write .parquet, .arrow or .jsonl.",
                param="on_error",
            )
        if options.keep:
            raise UnsupportedOption(
                "A .npy file has vectors only, and no columns to keep. Leave out --keep, or write .parquet, .arrow or "
                ".jsonl.",
                param="keep",
            )
        self._dtype = dtype
        self._width = width
        self._ids = options.id is not None or options.on_error == "skip" or options.too_long == "chunk"

    def write_rows(self, file: ChecksumFile, part: Part) -> None:
        """Write one JSON value a row: the id, or a list that begins with it for chunks."""
        columns = [to_list(column) for column in part.columns.values()]
        encode = msgspec.json.encode
        for values in zip(*columns, strict=True):
            file.write(encode(values[0] if len(values) == 1 else values) + b"\n")

    def assemble(
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Write header and numbers; see `OutputFormat`."""
        description = describe()  # the header has the number of rows
        ids = ids_file(output)
        files: list[Path] = []
        with write_durably(output) as file:
            header = {"descr": self._dtype.str, "fortran_order": False, "shape": (description["rows"], self._width)}
            np.lib.format.write_array_header_1_0(file, header)
            if before is not None:
                self._copy_vectors(output, file, before["rows"])
            for part in parts:
                vectors = part.vectors()
                if part.null:
                    vectors = np.where(vectors.any(axis=1, keepdims=True), vectors, np.nan).astype(self._dtype)
                file.write(vectors)
                files.append(part.columns)
            if before is None:
                remove_description(output)
            if self._ids:
                with write_durably(ids) as ids_of_rows:
                    if before is not None:
                        copy_lines(ids, ids_of_rows, before["rows"])
                    for path in files:
                        copy_file(path, ids_of_rows)
            else:
                ids.unlink(missing_ok=True)
        write_description(output, description)

    def require_appendable(self, output: Path, before: Mapping[str, Any]) -> None:
        """Compare header and ids; see `OutputFormat`."""
        with output.open("rb") as file:
            self._read_header(file, output, before["rows"])
        if ids_file(output).exists() != self._ids:
            raise JobError(
                f"{output} has {'no ids' if self._ids else 'ids'}, and the rows of this job have "
                f"{'ids' if self._ids else 'none'}. Give the same --id, --on-error and --too-long."
            )

    def _read_header(self, file: IO[bytes], output: Path, rows: int) -> None:
        """Read the header of a NumPy file, and leave the file at its first number.

        Raises:
            JobError: The array has less than `rows` rows, or others than this job writes.
        """
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(file)
        except ValueError as error:
            raise JobError(f"{output} is no NumPy file: {error}. Name another output, or --overwrite.") from None
        if fortran_order or dtype != self._dtype or shape[1:] != (self._width,) or shape[0] < rows:
            raise JobError(
                f"{output} has an array of {dtype} with the shape {shape}, and its metadata says {rows} rows of "
                f"{self._width} numbers of {self._dtype}. Restore the file, or begin anew with --overwrite."
            )

    def _copy_vectors(self, output: Path, file: ChecksumFile, rows: int) -> None:
        with output.open("rb") as present:
            self._read_header(present, output, rows)
            copy_bytes(present, file, rows * self._width * self._dtype.itemsize)

    def description(self, output: Path) -> dict[str, Any] | None:
        """Read the second file; see `OutputFormat`."""
        return read_description(output)


def ids_file(output: Path) -> Path:
    """Return the file of the ids beside a NumPy file."""
    return output.with_name(f"{output.name}.ids.jsonl")


def copy_bytes(source: IO[bytes], file: ChecksumFile, count: int) -> None:
    """Append the next `count` bytes of a file to another one.

    Raises:
        JobError: The file ends before.
    """
    while count:
        data = source.read(min(count, COPY_BYTES))
        if not data:
            raise cut_off(Path(source.name))
        file.write(data)
        count -= len(data)
