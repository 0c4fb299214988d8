"""`Source`: the files of a job as one sequence of rows, with checks before the first row is read."""

import glob
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from embergem.bulk.record_readers import CsvReader, JsonLinesReader
from embergem.bulk.rows import Position, RowBatch
from embergem.bulk.text_readers import (
    COMPRESSED,
    LinesReader,
    Reader,
    Selection,
    TextsReader,
    unreadable,
)
from embergem.errors import InvalidText, InvalidType, UnsupportedOption

STDIN = "-"
LINE_SUFFIXES = ("", ".txt", ".md")
TABLE_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
ARROW_SUFFIXES = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
SUFFIXES = (*LINE_SUFFIXES, *TABLE_SUFFIXES, *ARROW_SUFFIXES)
"""Suffixes of files that are read. Text files may have a suffix of `COMPRESSED` after them."""

TEXT_READERS = (LinesReader, TextsReader, CsvReader, JsonLinesReader)

SAMPLE = 2**20
"""Bytes at the start and at the end of a file that its state covers."""


START = Position()


class FileState(msgspec.Struct, frozen=True):
    """What tells a changed file from an unchanged one.

    Attributes:
        path: The file as it was named.
        size: Its bytes.
        modified: Its modification time in nanoseconds, as the file system has it. It is compared for equality only, so
            a clock that jumps has no effect.
        sample: Hash of its first and last bytes.
    """

    path: str
    size: int
    modified: int
    sample: str

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Read the state of a file.

        Raises:
            UnsupportedOption: The file cannot be read.
        """
        try:
            status = path.stat()
            with path.open("rb") as file:
                digest = hashlib.sha256(file.read(SAMPLE))
                file.seek(max(0, status.st_size - SAMPLE))
                digest.update(file.read(SAMPLE))
        except OSError as error:
            raise unreadable(str(path), error) from None
        return cls(str(path), status.st_size, status.st_mtime_ns, digest.hexdigest()[:32])

    def unchanged(self) -> bool:
        """Whether the file has the same size and time now. This reads no bytes of it."""
        try:
            status = Path(self.path).stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.modified)


class Source:
    """Rows of files or of tables, in order.

    Args:
        readers: One reader a file.
        selection: What to read of each row.
        paths: The file of each reader; empty if the rows do not come from files, and then a job cannot be continued.

    Attributes:
        states: The state of each file.
        resumable: Whether another process can read the same rows again.

    Raises:
        UnsupportedOption: A file does not have the columns, or files have different columns.
    """

    def __init__(self, readers: Sequence[Reader], selection: Selection, paths: Sequence[Path] = ()) -> None:
        self.readers = readers
        self.selection = selection
        self.states = [FileState.of(path) for path in paths]
        self.resumable = bool(paths)
        for reader in readers:
            reader.check(selection)
        if not all(isinstance(reader, TEXT_READERS) for reader in readers):
            _ = self.types  # files of different types are refused before anything is computed

    @property
    def name(self) -> str:
        """The source in messages."""
        return self.readers[0].name if len(self.readers) == 1 else f"{len(self.readers)} files"

    @property
    def row_count(self) -> int | None:
        """Number of rows, where all files say it; for the progress."""
        counts = [getattr(reader, "row_count", None) for reader in self.readers]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def size(self) -> int:
        """Bytes of all files; 0 if there are none."""
        return sum(state.size for state in self.states)

    def batches(self, start: Position = START) -> Iterator[RowBatch]:
        """Yield the rows after a place.

        Raises:
            InvalidText: A file is damaged, or was changed while it was read.
        """
        row, skip = start.row, start.file_row
        for number, reader in enumerate(self.readers[start.file :], start=start.file):
            for batch in reader.read(self.selection, skip):
                batch.first_row, batch.file_number = row, number
                if (read := getattr(reader, "bytes_read", None)) is not None:
                    batch.bytes_read = read + sum(state.size for state in self.states[:number])
                row += len(batch)
                yield batch
            skip = 0
            if self.states and not self.states[number].unchanged():
                raise changed(self.states[number].path)

    def require_unchanged(self) -> None:
        """Raise `InvalidText` if a file was changed or deleted since the source was opened."""
        for state in self.states:
            if not state.unchanged():
                raise changed(state.path)

    @cached_property
    def types(self) -> dict[str, Any]:
        """The Arrow types of the columns to keep; none where all readers know no types. JSON lines need pyarrow for it.

        Raises:
            UnsupportedOption: Files have different types.
        """
        if not self.selection.keep:
            return {}
        first = self.readers[0].types(self.selection) if self.readers else None
        for reader in self.readers[1:]:
            types = reader.types(self.selection)
            if types != first and not isinstance(reader, JsonLinesReader):
                for name in self.selection.keep:
                    here, there = (types or {}).get(name, "string"), (first or {}).get(name, "string")
                    if here != there:
                        raise UnsupportedOption(
                            f"{reader.name}: the column {name!r} has the type {here}, and in {self.readers[0].name} it "
                            f"has {there}. Give the files the same types, or leave the column out of --keep and --id.",
                            param="keep",
                        )
        return first or {}


def changed(path: str) -> InvalidText:
    """Return the error for a source file that is another one than at the start of the job."""
    return InvalidText(
        f"{path} was changed or deleted since the job began. Restore the file and run the same command again, or begin "
        "anew with --overwrite."
    )


def open_source(source: Any, selection: Selection) -> Source:
    """Open what a caller names as the source of a job.

    Args:
        source: A path, a glob pattern, a directory, "-" for stdin, or a list of these; a list of strings that are no
            paths must be a `Texts`. Or Arrow data: a table, a dataset, a record batch reader.
        selection: What to read of each row.

    Raises:
        UnsupportedOption: There is no such file, its format is not read, or it does not have the columns.
        InvalidText: A file is damaged.
        InvalidType: `source` is something else.
    """
    if isinstance(source, Texts):
        return Source([TextsReader(source.texts)], selection)
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, Iterable) and not hasattr(source, "schema") and not hasattr(source, "__arrow_c_stream__"):
        names = list(source)
        if all(isinstance(name, str | Path) for name in names):
            return _open_files([str(name) for name in names], selection)
    if not hasattr(source, "schema") and not hasattr(source, "__arrow_c_stream__"):
        raise InvalidType(
            f"source is of type {type(source).__name__}. Give a path, a glob pattern, a directory, a list of these, or "
            "an Arrow table, dataset or record batch reader.",
            param="source",
        )
    from embergem.bulk.arrow_readers import ArrowTableReader

    return Source([ArrowTableReader(source)], selection)


class Texts(msgspec.Struct, frozen=True):
    """Texts in memory as the source of a job."""

    texts: Sequence[str]


def _open_files(names: Sequence[str], selection: Selection) -> Source:
    if STDIN in names:
        if len(names) > 1:
            raise UnsupportedOption("- is stdin, which cannot be combined with other files.", param="file")
        return Source([LinesReader(None, "stdin")], selection)
    paths = [path for name in names for path in find_files(name)]
    return Source([open_reader(path) for path in paths], selection, paths)


def names_a_source(argument: str) -> bool:
    """Whether an argument of the command is a file and not a text.

    It is a file if it has the suffix of a known format and no spaces, or if it is a directory. An empty argument is a
    text, although `Path("")` is the current directory.

    >>> [names_a_source(argument) for argument in ("a.parquet", "data/*.csv.gz", "What is graphene?", "see a.txt", "")]
    [True, True, False, False, False]
    """
    if not argument or len(argument) > 4096 or "\0" in argument or any(character.isspace() for character in argument):
        return False
    path = Path(argument)
    return bool(path.suffix and format_suffix(path) in SUFFIXES) or path.is_dir()


def find_files(name: str) -> list[Path]:
    """Return the files that a path, a directory or a glob pattern names, sorted.

    Hidden files are left out of directories, and so are files whose suffix is not read.

    Raises:
        UnsupportedOption: There is none.
    """
    path = Path(name)
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if file.is_file()
            and format_suffix(file) in SUFFIXES
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not found:
            raise UnsupportedOption(f"The directory {name} has no files of the formats that are read.", param="file")
        return found
    if any(character in name for character in "*?[") and not path.exists():
        found = sorted(Path(match) for match in glob.glob(name, recursive=True) if Path(match).is_file())
        if not found:
            raise UnsupportedOption(f"--file {name} matches no file. Check the pattern and the quotes.", param="file")
        return found
    return [path]


def format_suffix(path: Path) -> str:
    """Return the suffix that says the format, without that of a compression.

    >>> format_suffix(Path("a.csv.gz")), format_suffix(Path("a.parquet"))
    ('.csv', '.parquet')
    """
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def open_reader(path: Path) -> Reader:
    """Open a file by its suffix.

    Raises:
        UnsupportedOption: The suffix is not read, or the file cannot be.
        InvalidText: The file is damaged.
    """
    suffix = format_suffix(path)
    if suffix not in SUFFIXES:
        known = ", ".join(name or "no suffix" for name in SUFFIXES)
        raise UnsupportedOption(
            f"{path}: files with the suffix {suffix} are not read. Known are: {known}. Write the texts to one of them, "
            "or send one text a line to stdin.",
            param="file",
        )
    if suffix in ARROW_SUFFIXES:
        if path.suffix.lower() in COMPRESSED:
            raise UnsupportedOption(
                f"{path}: {suffix} files are compressed inside, and the file cannot be read without decompressing it "
                "whole. Decompress it first.",
                param="file",
            )
        from embergem.bulk.arrow_readers import ArrowFileReader, ParquetReader

        return ParquetReader(path) if suffix in (".parquet", ".pq") else ArrowFileReader(path)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLinesReader(path, str(path))
    if suffix in (".csv", ".tsv"):
        return CsvReader(path, str(path), "," if suffix == ".csv" else "\t")
    return LinesReader(path, str(path))
