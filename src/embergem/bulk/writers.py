"""Output formats: how the rows of a part are stored, and how the parts become the output.

`OutputFormat` is the interface. JSON lines and NumPy files are here and need no pyarrow; `arrow_writers` has Parquet,
Arrow and Lance.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from embergem.bulk.durable_files import ChecksumFile, flush_directory, write_durably
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import Part
from embergem.bulk.rows import Problem, to_list
from embergem.errors import JobError, UnsupportedOption

COPY_BYTES = 2**22
"""Bytes that are copied at a time from the files of parts."""


class FinishedPart(msgspec.Struct, frozen=True):
    """A part on the disk.

    Attributes:
        rows: Its rows.
        null: Those without a vector.
        vectors: Returns its vectors (rows, width), after their checksum was compared.
        columns: File of its other columns.
    """

    rows: int
    null: int
    vectors: Callable[[], NDArray[Any]]
    columns: Path


class OutputFormat(Protocol):
    """Writes one format.

    A format is made for one job. Its parts may have been written by an earlier process, so it keeps no state of them.
    """

    def write_rows(self, file: ChecksumFile, part: Part) -> None:
        """Write what the output has of a part besides the vectors."""

    def assemble(
        self, parts: Iterator[FinishedPart], output: Path, description: Mapping[str, Any], *, append: bool = False
    ) -> None:
        """Write the output from all parts, durably; `description` becomes its metadata.

        With `append`, the rows of the present output come first; only formats with Arrow columns can do that.

        The bytes depend on the rows and the description only, not on where parts end.
        """

    def description(self, output: Path) -> dict[str, Any] | None:
        """Return the metadata of an existing output; None if it has none."""


class JsonLinesFormat:
    """JSON lines: one object a row, with the columns, the name of the space, and the vector.

    The metadata is in a second file, `corpus.jsonl.json`.
    """

    def __init__(self, options: JobOptions, space: Mapping[str, Any]) -> None:
        self._into = options.into
        self._text = options.column if options.keep is None else None
        shown = ("model", "dtype", "fingerprint", "task")
        self._space = msgspec.json.encode({name: space[name] for name in shown})[1:-1]

    def write_rows(self, file: ChecksumFile, part: Part) -> None:
        """Write the lines of a part."""
        file.write(self.lines(part))

    def lines(self, part: Part) -> bytes:
        """Return the lines of a part."""
        names = ["text" if name == self._text else name for name in part.columns]
        columns = [to_list(column) for column in part.columns.values()]
        into = json.dumps(self._into).encode()
        vectors = shortest(part.vectors) if part.vectors.dtype.kind == "f" else part.vectors
        lines = []
        for row, (values, vector) in enumerate(zip(zip(*columns, strict=True), vectors, strict=True)):
            has_vector = part.valid is None or part.valid[row]
            start = msgspec.json.encode(dict(zip(names, values, strict=True)))[:-1]
            numbers = msgspec.json.encode(vector.tolist()) if has_vector else b"null"
            lines.append(b"%s,%s,%s:%s}\n" % (start, self._space, into, numbers))
        return b"".join(lines)

    def assemble(
        self, parts: Iterator[FinishedPart], output: Path, description: Mapping[str, Any], *, append: bool = False
    ) -> None:
        """Concatenate the lines of the parts; see `OutputFormat`."""
        with write_durably(output) as file:
            for part in parts:
                copy_file(part.columns, file)
            remove_description(output)
        write_description(output, description)

    def description(self, output: Path) -> dict[str, Any] | None:
        """Read the second file; see `OutputFormat`."""
        return read_description(output)


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
        self, parts: Iterator[FinishedPart], output: Path, description: Mapping[str, Any], *, append: bool = False
    ) -> None:
        """Write header and numbers; see `OutputFormat`."""
        ids = ids_file(output)
        files: list[Path] = []
        with write_durably(output) as file:
            header = {"descr": self._dtype.str, "fortran_order": False, "shape": (description["rows"], self._width)}
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                vectors = part.vectors()
                if part.null:
                    vectors = np.where(vectors.any(axis=1, keepdims=True), vectors, np.nan).astype(self._dtype)
                file.write(vectors)
                files.append(part.columns)
            remove_description(output)
            if self._ids:
                with write_durably(ids) as ids_of_rows:
                    for path in files:
                        copy_file(path, ids_of_rows)
            else:
                ids.unlink(missing_ok=True)
        write_description(output, description)

    def description(self, output: Path) -> dict[str, Any] | None:
        """Read the second file; see `OutputFormat`."""
        return read_description(output)


def shortest(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return floats as float64 numbers that print with the fewest digits that restore the float32 or float16 value.

    A number is rounded to 9, 8, 7 and 6 digits (5, 4 and 3 for float16), as long as it stays the same in its own type.
    Dividing an integer by a power of ten up to 10^22 gives the float64 number that prints as this decimal fraction.

    >>> shortest(np.float32([0.1, -2, 1e-9, 0])).tolist()
    [0.1, -2.0, 1e-09, 0.0]
    """
    numbers = vectors.astype(np.float64)
    rounded = numbers.copy()
    magnitude = np.abs(numbers)
    most, least = (9, 6) if vectors.dtype == np.float32 else (5, 3)
    usual = (magnitude > max(1e-12, float(np.finfo(vectors.dtype).tiny))) & (magnitude < 10.0**least)
    places = -1 - np.floor(np.log10(np.where(usual, magnitude, 1.0))).astype(np.int64)
    for digits in range(most, least - 1, -1):
        power = POWERS[places + digits]
        candidates = np.rint(numbers * power) / power
        same = usual & (candidates.astype(vectors.dtype) == vectors)
        rounded[same] = candidates[same]
    for place in zip(*np.nonzero(~usual & (magnitude > 0)), strict=True):
        rounded[place] = float(str(vectors[place]))
    return rounded


POWERS = np.array([float(f"1e{exponent}") for exponent in range(23)])
"""Powers of ten that are exact in float64."""


def ids_file(output: Path) -> Path:
    """Return the file of the ids beside a NumPy file."""
    return output.with_name(f"{output.name}.ids.jsonl")


def description_file(output: Path) -> Path:
    """Return the file of the metadata beside an output that has no place for it."""
    return output.with_name(f"{output.name}.json")


def write_description(output: Path, description: Mapping[str, Any]) -> None:
    """Write the metadata beside an output."""
    with write_durably(description_file(output)) as file:
        file.write(json.dumps(description, ensure_ascii=False, indent=1).encode() + b"\n")


def remove_description(output: Path) -> None:
    """Remove the metadata beside an output before it is replaced: an interruption leaves none rather than the old."""
    description_file(output).unlink(missing_ok=True)
    flush_directory(output.absolute().parent)


def read_description(output: Path) -> dict[str, Any] | None:
    """Return the metadata beside an output; None if there is none.

    Raises:
        JobError: It is damaged.
    """
    path = description_file(output)
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise JobError(f"{path} is damaged: {error}. Delete it, and run the command with --overwrite.") from None
    return found if isinstance(found, dict) else None


def write_report(path: Path, problems: Iterable[Problem]) -> None:
    """Write the list of bad, cut and divided rows: one JSON object a row."""
    with write_durably(path) as file:
        for problem in problems:
            file.write(msgspec.json.encode(problem) + b"\n")


def copy_file(path: Path, file: IO[bytes] | ChecksumFile) -> None:
    """Append the bytes of a file to another one."""
    with path.open("rb") as source:
        while data := source.read(COPY_BYTES):
            file.write(data)
