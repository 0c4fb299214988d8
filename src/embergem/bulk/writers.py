"""Output formats: how the rows of a part are stored, and how the parts become the output.

`OutputFormat` is the interface, and JSON lines are the first format. `numpy_writer`, `arrow_writers`, `lance_writer`
and `table_writer` have the others.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from embergem.bulk.durable_files import ChecksumFile, flush_directory, write_durably
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import Part, column_names
from embergem.bulk.rows import Problem, to_list
from embergem.errors import JobError

COPY_BYTES = 2**22
"""Bytes that are copied at a time from the files of parts."""


Describe = Callable[[], Mapping[str, Any]]
"""Returns the metadata of an output once all parts are finished."""


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
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the output from all parts, durably.

        The parts may come while others are still computed. `describe` returns the metadata, and waits until all parts
        are finished, so that a format which calls it after the last part is written at the same time as the rows are
        computed. After an error of `parts` or `describe`, the present output is as it was.

        With `before`, the metadata of the present output, the `before["rows"]` first rows of the present output come
        first. The present output may have more rows: those of an assembly that was interrupted before it wrote the new
        metadata. So an interrupted assembly can be repeated.

        The bytes depend on the rows and the description only, not on where parts end.
        """

    def require_appendable(self, output: Path, before: Mapping[str, Any]) -> None:
        """Refuse to append to an output with other columns; `before` is its metadata.

        Raises:
            JobError: It has other columns, or the format cannot be appended to.
        """

    def description(self, output: Path) -> dict[str, Any] | None:
        """Return the metadata of an existing output; None if it has none."""


class JsonLinesFormat:
    """JSON lines: one object a row, with the columns, the name of the space, and the vector.

    The metadata is in a second file, `corpus.jsonl.json`.
    """

    def __init__(self, options: JobOptions, keep: Sequence[str], space: Mapping[str, Any]) -> None:
        self._into = options.into
        self._text = options.column if options.keep is None else None
        self._names = self._shown_names(column_names(options, keep))
        shown = ("model", "dtype", "fingerprint", "task")
        self._space = msgspec.json.encode({name: space[name] for name in shown})[1:-1]

    def write_rows(self, file: ChecksumFile, part: Part) -> None:
        """Write the lines of a part."""
        file.write(self.lines(part))

    def lines(self, part: Part) -> bytes:
        """Return the lines of a part."""
        names = self._shown_names(part.columns)
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

    def _shown_names(self, names: Iterable[str]) -> list[str]:
        return ["text" if name == self._text else name for name in names]

    def assemble(
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Concatenate the lines of the parts; see `OutputFormat`."""
        with write_durably(output) as file:
            if before is not None:
                copy_lines(output, file, before["rows"])
            for part in parts:
                copy_file(part.columns, file)
            description = describe()
            if before is None:
                remove_description(output)
        write_description(output, description)

    def require_appendable(self, output: Path, before: Mapping[str, Any]) -> None:
        """Compare the names in the first line; see `OutputFormat`."""
        with output.open("rb") as file:
            line = file.readline()
        try:
            found = list(msgspec.json.decode(line, type=dict[str, Any])) if line else []
        except msgspec.MsgspecError as error:
            raise JobError(f"{output}, line 1: is no JSON object: {error}. Name another output.") from None
        expected = [*self._names, *msgspec.json.decode(b"{%s}" % self._space), self._into]
        if line and found != expected:
            raise other_columns(output, found, expected)

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


def copy_lines(path: Path, file: ChecksumFile, count: int) -> None:
    """Append the first `count` lines of a file to another one.

    Raises:
        JobError: The file has fewer.
    """
    with path.open("rb") as source:
        while count:
            data = source.read(COPY_BYTES)
            if not data:
                raise cut_off(path)
            lines = data.count(b"\n")
            if lines >= count:
                end = 0
                for _ in range(count):
                    end = data.index(b"\n", end) + 1
                data = data[:end]
            file.write(data)
            count -= min(lines, count)


def cut_off(path: Path) -> JobError:
    """Return the error for an output to append to that has fewer rows than its metadata says."""
    return JobError(
        f"{path} has fewer rows than its metadata says, so it was changed. Restore the file, or begin anew with "
        "--overwrite."
    )


def other_columns(output: Path, found: Iterable[str], expected: Iterable[str]) -> JobError:
    """Return the error for an output to append to that has other columns than a job."""
    return JobError(
        f"{output} has the columns {', '.join(found)}, and this job writes {', '.join(expected)}, perhaps of other "
        "types. Give the same --id, --keep and --into."
    )
