"""Output format of a table to read: the start of each text, and the first numbers and the length of its vector."""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from embergem.bulk.durable_files import ChecksumFile, write_durably
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import Part
from embergem.bulk.rows import to_list
from embergem.bulk.writers import Describe, FinishedPart
from embergem.errors import JobError, UnsupportedOption

SHOWN_NUMBERS = 6
SHOWN_CHARACTERS = 40
LEAST_CHARACTERS = 16
"""Characters of a text that a narrow table shows at least."""
FRAME = 10
"""Characters of a row that are borders, and spaces beside them."""

table_columns: ContextVar[int] = ContextVar("table_columns", default=110)
"""Width of a table in characters. A file has the default; the command sets the width of the terminal."""


class TableFormat:
    """A table to read, with a description of the vectors below it. The whole table is in memory."""

    def __init__(self, options: JobOptions, keep: tuple[str, ...]) -> None:
        if options.keep:
            raise UnsupportedOption(
                "A table to read shows the texts only. Leave out --keep, or write .parquet, .arrow or .jsonl.",
                param="keep",
            )
        self._text = keep[-1]
        self._columns = table_columns.get()  # here, because another thread, which has its own context, draws the table

    def write_rows(self, file: ChecksumFile, part: Part) -> None:
        """Write one JSON line a row: text, first numbers and length."""
        texts = to_list(part.columns[self._text])
        for row, (text, vector) in enumerate(zip(texts, part.vectors, strict=True)):
            has_vector = part.valid is None or bool(part.valid[row])
            numbers = [f"{number:+.4f}" for number in vector[:SHOWN_NUMBERS]] if has_vector else ["none"]
            length = f"{np.linalg.norm(vector.astype(np.float32)):.4f}" if has_vector else ""
            file.write(msgspec.json.encode((text or "", numbers, length)) + b"\n")

    def assemble(
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Draw the table; see `OutputFormat`."""
        description = describe()
        shown = ("model", "dtype", "fingerprint", "task")
        caption = "\n".join(f"{name} {description[name]}" for name in shown if description[name] is not None)
        rows = [
            msgspec.json.decode(line, type=tuple[str, list[str], str])
            for part in parts
            for line in part.columns.read_bytes().splitlines()
        ]
        characters, count = fit(self._columns, max((len(text) for text, *_ in rows), default=0))
        heads = ("text", Column(f"first of {description['dimensions']} numbers", width=_width(count)), "length")
        table = Table(*heads, caption=caption, caption_justify="left")
        for text, values, length in rows:
            shown_text = text if len(text) <= characters else text[: characters - 1] + "…"
            table.add_row(shown_text, "  ".join(values[:count]), length)
        console = Console(width=self._columns, force_terminal=False)
        with console.capture() as capture:
            console.print(table)
        with write_durably(output) as file:
            file.write(capture.get().encode())

    def require_appendable(self, output: Path, before: Mapping[str, Any]) -> None:
        """Refuse: a table has no metadata that says what its vectors are."""
        raise JobError(f"{output} is a table to read, to which no rows can be appended. Write another format.")

    def description(self, output: Path) -> dict[str, Any] | None:
        """Return None: a table has no metadata that a program reads."""
        return None


def fit(columns: int, longest: int) -> tuple[int, int]:
    """Return how many characters of a text, and how many numbers of a vector, a table of `columns` characters shows.

    Args:
        columns: Width of the table.
        longest: Characters of the longest text.

    Example:
        >>> fit(110, 17), fit(80, 17), fit(40, 17)
        ((17, 6), (17, 5), (17, 1))
    """
    room = columns - FRAME - len("1.0000")
    characters = min(longest, SHOWN_CHARACTERS)
    count = SHOWN_NUMBERS
    while count > 2 and characters + _width(count) > room:
        count -= 1
    if LEAST_CHARACTERS + _width(count) > room:
        count = 1
    return min(characters, max(LEAST_CHARACTERS, room - _width(count))), count


def _width(count: int) -> int:
    """Return the width of `count` numbers with two spaces between them."""
    return count * len("+0.0000") + (count - 1) * 2
