"""Reads the texts of `embergem embed` from a file or from stdin: lines, JSON lines, or a column of a CSV file."""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from embergem.errors import EmptyInput, InvalidText, UnsupportedOption
from embergem.suggestions import did_you_mean

TEXT_COLUMN = "text"
"""The field of a JSON line, or the column of a CSV file, that has the text if none is named."""

Reader = Callable[[str, str, str], list[str]]


def read_texts(file: Path | None, column: str | None) -> list[str]:
    """Return the texts of a file, by its suffix; None and `-` are stdin, one text a line.

    Args:
        file: The file.
        column: Field of JSON lines or column of a CSV file; None is "text".

    Raises:
        EmptyInput: There are no texts, or stdin is a terminal.
        InvalidText: The file is not UTF-8, or a row has no text.
        UnsupportedOption: The suffix names a format that is not read, the file cannot be read, or `column` is given
            for lines.
    """
    if file is None and sys.stdin.isatty():
        raise EmptyInput("There are no texts to embed. Give texts as arguments, a file with --file, or lines on stdin.")
    stdin = file is None or str(file) == "-"
    source = "stdin" if stdin else str(file)
    suffix = "" if file is None or stdin else file.suffix.lower()
    if suffix not in READERS:
        known = ", ".join(name or "no suffix" for name in READERS)
        raise UnsupportedOption(
            f"{source}: files with the suffix {suffix} are not read. Known are: {known}. Write the texts to one of "
            "them, or send one text a line to stdin.",
            param="file",
        )
    reader = READERS[suffix]
    if column is not None and reader is _read_lines:
        raise UnsupportedOption(
            f"--column {column} needs a file with columns (.csv, .tsv, .jsonl), and {source} has lines. Leave it out.",
            param="column",
        )
    try:
        data = sys.stdin.buffer.read() if file is None or stdin else file.read_bytes()
    except OSError as error:
        raise UnsupportedOption(
            f"--file {source} cannot be read: {error.strerror}. Name a file with texts, or - for stdin.", param="file"
        ) from None
    try:
        text = data.decode("utf-8-sig")  # a byte order mark is no part of the first text
    except UnicodeDecodeError as error:
        raise InvalidText(f"{source} is not valid UTF-8 at byte {error.start}. Convert it to UTF-8 first.") from None
    texts = reader(text, source, column or TEXT_COLUMN)
    if not texts:
        raise EmptyInput(f"{source} is empty. Write one text on each line.")
    return texts


def _read_lines(text: str, source: str, column: str) -> list[str]:
    lines = text.split("\n")  # only newlines end a line; the other separators of str.splitlines belong to the text
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _read_json_lines(text: str, source: str, column: str) -> list[str]:
    texts = []
    for number, line in enumerate(_read_lines(text, source, column), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InvalidText(f"{source}, line {number}: is no JSON: {error}. Write one value on each line.") from None
        found = value.get(column) if isinstance(value, dict) else value
        if not isinstance(found, str):
            advice = did_you_mean(column, value) if isinstance(value, dict) and column not in value else ""
            raise InvalidText(
                f"{source}, line {number}: has no text in the field {column!r}.{advice} Name the field with --column, "
                "or write each text as a JSON string."
            )
        texts.append(found)
    return texts


def _read_csv(text: str, source: str, column: str, delimiter: str = ",") -> list[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = list(rows.fieldnames or ())
    if not names:
        return []
    if column not in names:
        raise UnsupportedOption(
            f"{source} has no column {column!r}.{did_you_mean(column, names)} Its columns are: {', '.join(names)}. "
            "Name one with --column.",
            param="column",
        )
    texts = []
    for row in rows:
        if row[column] is None:
            raise InvalidText(f"{source}, line {rows.line_num}: has no value in the column {column!r}.")
        texts.append(row[column])
    return texts


def _read_tsv(text: str, source: str, column: str) -> list[str]:
    return _read_csv(text, source, column, delimiter="\t")


READERS: dict[str, Reader] = {
    "": _read_lines,
    ".txt": _read_lines,
    ".md": _read_lines,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
}
"""The reader of each suffix."""

SUFFIXES: Sequence[str] = tuple(name for name in READERS if name)
"""Suffixes of files that are read, for help texts."""
