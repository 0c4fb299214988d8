"""Output format of a table to read: the start of each text, and the first numbers and the length of its vector."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from embergem.bulk.durable_files import ChecksumFile, write_durably
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import Part
from embergem.bulk.rows import to_list
from embergem.bulk.writers import FinishedPart
from embergem.errors import UnsupportedOption

SHOWN_NUMBERS = 6
SHOWN_CHARACTERS = 40
COLUMNS = 110
"""Width of the table in characters."""


class TableFormat:
    """A table to read, with a description of the vectors below it. The whole table is in memory."""

    def __init__(self, options: JobOptions, keep: tuple[str, ...]) -> None:
        if options.keep:
            raise UnsupportedOption(
                "A table to read shows the texts only. Leave out --keep, or write .parquet, .arrow or .jsonl.",
                param="keep",
            )
        self._text = keep[-1]

    def write_rows(self, file: ChecksumFile, part: Part) -> None:
        """Write one JSON line a row: text, first numbers and length."""
        texts = to_list(part.columns[self._text])
        for row, (text, vector) in enumerate(zip(texts, part.vectors, strict=True)):
            has_vector = part.valid is None or bool(part.valid[row])
            numbers = "  ".join(f"{number:+.4f}" for number in vector[:SHOWN_NUMBERS]) if has_vector else "none"
            length = f"{np.linalg.norm(vector.astype(np.float32)):.4f}" if has_vector else ""
            file.write(msgspec.json.encode((text or "", numbers, length)) + b"\n")

    def assemble(
        self, parts: Iterator[FinishedPart], output: Path, description: Mapping[str, Any], *, append: bool = False
    ) -> None:
        """Draw the table; see `OutputFormat`."""
        shown = ("model", "dtype", "fingerprint", "task")
        caption = "\n".join(f"{name} {description[name]}" for name in shown if description[name] is not None)
        numbers = f"first of {description['dimensions']} numbers"
        table = Table("text", numbers, "length", caption=caption, caption_justify="left")
        for part in parts:
            for line in part.columns.read_bytes().splitlines():
                text, *rest = msgspec.json.decode(line, type=tuple[str, str, str])
                table.add_row(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…", *rest)
        console = Console(width=COLUMNS, force_terminal=False)
        with console.capture() as capture:
            console.print(table)
        with write_durably(output) as file:
            file.write(capture.get().encode())

    def description(self, output: Path) -> dict[str, Any] | None:
        """Return None: a table has no metadata that a program reads."""
        return None
