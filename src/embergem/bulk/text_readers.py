"""What all readers share, the lines of a text file, and the readers of lines and of texts in memory.

A file is read in blocks, so memory does not depend on its size. No pyarrow is needed, except for .zst files.
"""

import bz2
import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, cast

import msgspec

from embergem.bulk.rows import Column, RowBatch
from embergem.errors import EmptyInput, InvalidText, UnsupportedOption
from embergem.integrations import missing_package
from embergem.suggestions import did_you_mean

TEXT_COLUMN = "text"
"""The column that has the text if none is named."""

BATCH_ROWS = 4096
"""Most rows of a batch."""

BATCH_BYTES = 2**20
"""Bytes of text after which a batch ends."""

MAX_LINE = 2**28
"""Most bytes of a line. A longer one is a file without line ends, and would fill the memory."""

MAX_HEADER = 2**20
"""Most bytes of the header of a CSV file."""

BLOCK = 2**20
"""Bytes that are read from a file at a time."""

COMPRESSED = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd"}
"""Suffixes of compressed files, each with the name of the compression."""


class Selection(msgspec.Struct, frozen=True):
    """What to read of each row.

    Attributes:
        column: Column of the text; None is the default column.
        title: Column of the title, or None.
        keep: Columns whose values go into the output, the id among them.
    """

    column: str | None = None
    title: str | None = None
    keep: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Column of the text."""
        return self.column or TEXT_COLUMN

    @property
    def names(self) -> list[str]:
        """All columns to read, each once; that of the text is the first."""
        return list(dict.fromkeys([self.text, *([self.title] if self.title else []), *self.keep]))


class Reader(Protocol):
    """Reads one file, or another source of rows."""

    @property
    def name(self) -> str:
        """The file, as errors name it."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the columns; None for plain lines. JSON lines have those of the first line."""

    def check(self, selection: Selection) -> None:
        """Refuse a selection that does not fit the file.

        Raises:
            UnsupportedOption: The file has no such column, or the column has no texts.
        """

    def types(self, selection: Selection) -> "dict[str, Any] | None":
        """Return the Arrow type of each column to keep; None where the reader knows no types."""

    def read(self, selection: Selection, skip: int) -> Iterator[RowBatch]:
        """Yield the rows after the first `skip`."""


def open_bytes(path: Path | None) -> IO[bytes]:
    """Open a file for reading, and decompress it by its suffix; None is stdin.

    Raises:
        UnsupportedOption: The file cannot be read.
    """
    if path is None:
        return sys.stdin.buffer
    try:
        suffix = path.suffix.lower()
        if suffix == ".gz":
            return cast("IO[bytes]", gzip.open(path))
        if suffix == ".bz2":
            return bz2.open(path)
        if suffix == ".zst":
            try:
                import pyarrow as pa
            except ImportError as error:
                raise missing_package("pyarrow", "bulk") from error
            stream: IO[bytes] = pa.input_stream(str(path), compression="zstd")
            return stream
        return path.open("rb")
    except OSError as error:
        raise unreadable(str(path), error) from None


def unreadable(name: str, error: OSError) -> UnsupportedOption:
    """Return the error for a file that cannot be opened or read."""
    return UnsupportedOption(
        f"--file {name} cannot be read: {error.strerror or error}. Name a file with texts, or - for stdin.",
        param="file",
    )


class LineFile:
    """The lines of a text file. A byte order mark is no part of the first line.

    Args:
        path: The file; None is stdin.
        name: Its name in errors.
    """

    def __init__(self, path: Path | None, name: str) -> None:
        self.path = path
        self.name = name
        self.bytes_read = 0  # of the file as it is on the disk, compressed

    def blocks(self, max_line: int = MAX_LINE) -> Iterator[list[bytes]]:
        """Yield lists of lines, without the newline. Only a newline ends a line.

        Raises:
            UnsupportedOption: The file cannot be read.
            InvalidText: The file is damaged, or a line is too long.
        """
        stream = open_bytes(self.path)
        try:
            yield from self._blocks(stream, max_line)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidText(
                f"{self.name} is not a complete compressed file: {error}. Copy or download it again."
            ) from None
        except OSError as error:
            if error.errno is None:  # from a decompressor
                raise InvalidText(f"{self.name} cannot be decompressed: {error}. Copy it again.") from None
            raise unreadable(self.name, error) from None
        finally:
            if self.path is not None:
                stream.close()

    def _blocks(self, stream: IO[bytes], max_line: int) -> Iterator[list[bytes]]:
        pieces: list[bytes] = []  # of a line whose end was not read yet
        size = number = 0
        first = True
        raw = getattr(stream, "fileobj", None) or getattr(stream, "_fp", None) or stream
        is_file = self.path is not None and self.path.suffix.lower() != ".zst"
        while data := stream.read(BLOCK):
            self.bytes_read = raw.tell() if is_file else 0
            if first:
                data, first = data.removeprefix(b"\xef\xbb\xbf"), False
            lines = data.split(b"\n")
            if len(lines) > 1:
                lines[0] = b"".join([*pieces, lines[0]])
                pieces, size = [], 0
                rest = lines.pop()
                number += len(lines)
                yield lines
            else:
                rest = lines[0]
            if rest:
                pieces.append(rest)
                size += len(rest)
            if size > max_line:
                raise InvalidText(
                    f"{self.name}, line {number + 1}: is longer than {max_line >> 20} MiB, which is the limit of a "
                    "line. Is this a text file with one row a line?"
                )
        if pieces:
            yield [b"".join(pieces)]


Parsed = tuple[str | None, tuple[str, str] | None]
"""A text and None, or None and (kind, description) of a bad row."""


class LinesReader:
    """Plain lines: each line is a text, an empty line too."""

    columns = None

    def __init__(self, path: Path | None, name: str) -> None:
        self.name = name
        self._file = LineFile(path, name)

    def check(self, selection: Selection) -> None:
        """Refuse columns: lines have none."""
        for option, value in (("column", selection.column), ("title", selection.title)):
            if value is not None:
                raise UnsupportedOption(
                    f"--{option} {value} needs a file with columns (.csv, .tsv, .jsonl, .parquet, .arrow), and "
                    f"{self.name} has lines. Leave it out."
                    + (" --title-text gives all rows one title." if option == "title" else ""),
                    param=option,
                )
        for name in selection.keep:
            if name != TEXT_COLUMN:
                raise UnsupportedOption(
                    f"{self.name} has lines and no column {name!r} to keep. Leave out --id and --keep, or name a file "
                    "with columns.",
                    param="keep",
                )

    @property
    def bytes_read(self) -> int:
        """Bytes of the file that were read."""
        return self._file.bytes_read

    def types(self, selection: Selection) -> dict[str, Any] | None:
        """Return None: the texts are strings."""
        return None

    def read(self, selection: Selection, skip: int) -> Iterator[RowBatch]:
        """Yield the lines; see `Reader`."""
        place = 0
        for lines in self._file.blocks():
            for start in range(0, len(lines), BATCH_ROWS):
                part = lines[start : start + BATCH_ROWS]
                places = range(place + 1, place + 1 + len(part))
                place += len(part)
                if place <= skip:
                    continue
                texts, bad = _decode_lines(part)
                columns: dict[str, Column] = {TEXT_COLUMN: texts} if TEXT_COLUMN in selection.keep else {}
                batch = RowBatch(places[0] - 1, self.name, "line", places, texts, None, columns, bad)
                yield batch.part(skip - places[0] + 1) if places[0] <= skip else batch


def _decode_lines(lines: Sequence[bytes]) -> tuple[list[str | None], dict[int, tuple[str, str]]]:
    texts: list[str | None] = []
    bad: dict[int, tuple[str, str]] = {}
    for index, line in enumerate(lines):
        try:
            texts.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError as error:
            texts.append(None)
            bad[index] = not_utf8(error)
    return texts, bad


def not_utf8(error: UnicodeDecodeError) -> tuple[str, str]:
    """Return kind and description of a row that is not UTF-8."""
    return "not_utf8", f"is not valid UTF-8 at byte {error.start}. Convert the file to UTF-8 first."


def missing_column(name: str, column: str, columns: Sequence[str], selection: Selection) -> UnsupportedOption:
    """Return the error for a column that a file does not have."""
    option = "title" if column == selection.title else "column" if column == selection.text else "keep"
    return UnsupportedOption(
        f"{name} has no column {column!r}.{did_you_mean(column, columns)} Its columns are: "
        f"{', '.join(columns[:50])}. Name one with --{option}.",
        param=option,
    )


class TextsReader:
    """Texts that are in memory already: arguments of the command, or an iterable of the caller."""

    columns = None
    name = "texts"

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def check(self, selection: Selection) -> None:
        """Refuse columns: texts have none."""
        if selection.column is not None:
            raise UnsupportedOption(
                "--column needs a file: name it with --file, or leave out --column.", param="column"
            )
        LinesReader(None, "the argument").check(selection)

    def types(self, selection: Selection) -> dict[str, Any] | None:
        """Return None: the texts are strings."""
        return None

    def read(self, selection: Selection, skip: int) -> Iterator[RowBatch]:
        """Yield the texts; see `Reader`."""
        for start in range(skip, len(self._texts), BATCH_ROWS):
            texts: list[str | None] = list(self._texts[start : start + BATCH_ROWS])
            places = range(start + 1, start + 1 + len(texts))
            columns: dict[str, Column] = {TEXT_COLUMN: texts} if TEXT_COLUMN in selection.keep else {}
            yield RowBatch(start, self.name, "text", places, texts, None, columns, {})


def require_rows(count: int, name: str) -> None:
    """Raise `EmptyInput` if a source has no rows."""
    if not count:
        raise EmptyInput(f"{name} is empty. Write one text on each line.")
