"""Writes the vectors of `embergem embed`: as JSON lines, as a NumPy file, or as a table to read."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from embergem.errors import UnsupportedOption

if TYPE_CHECKING:
    from embergem.types import Vectors


class Format(StrEnum):
    """Formats of the vectors."""

    JSON = "json"
    NPY = "npy"
    TABLE = "table"


SUFFIXES = {"": Format.JSON, ".jsonl": Format.JSON, ".ndjson": Format.JSON, ".npy": Format.NPY, ".txt": Format.TABLE}
"""The format of an output file, by its suffix."""


def choose_format(chosen: Format | None, output: Path | None) -> Format:
    """Return the format that the option or the name of the output file says; JSON lines for stdout.

    Raises:
        UnsupportedOption: The suffix is unknown and no format is chosen, the directory does not exist, `output` is a
            directory, or a NumPy file would be shown on a terminal.
    """
    suffix = "" if output is None else output.suffix.lower()
    form = chosen or SUFFIXES.get(suffix)
    if form is None:
        known = ", ".join(name for name in SUFFIXES if name)
        raise UnsupportedOption(
            f"--output {output}: the format {suffix} is not written. Use one of {known}, or choose a format with "
            "--format.",
            param="output",
        )
    if output is not None and not output.absolute().parent.is_dir():
        raise UnsupportedOption(
            f"--output {output}: there is no directory {output.parent}. Create it first: mkdir -p {output.parent}",
            param="output",
        )
    if output is not None and output.is_dir():
        raise UnsupportedOption(f"--output {output} is a directory. Name a file in it.", param="output")
    if form is Format.NPY and output is None and sys.stdout.isatty():
        raise UnsupportedOption("A NumPy file cannot be shown on a terminal. Name a file with --output, or use a pipe.")
    return form


class VectorWriter:
    """Writes vectors in the order of their texts, each as soon as it is there where the format allows it.

    The description of the vectors is part of each JSON line and below a table. A NumPy file has no place for it, so
    `corpus.npy` gets the description in a second file `corpus.npy.json`. A file has its name only once it is complete.

    Args:
        form: Format of the output.
        output: File to write; None is stdout.
        description: What the vectors are: model, dtype, fingerprint, task.

    Attributes:
        rows: Number of vectors that were written.
    """

    def __init__(self, form: Format, output: Path | None, description: dict[str, Any]) -> None:
        self.rows = 0
        self._form = form
        self._output = output
        self._description = description

    def write(self, texts: Sequence[str], vectors: "Iterable[Vectors]") -> None:
        """Write all vectors; each is a float32 array (d,).

        A reader of stdout that stops early, such as head, ends the work without an error.
        """
        if self._output is None:
            try:
                self._write_to(sys.stdout.buffer, texts, vectors)
                sys.stdout.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        with _whole(self._output) as file:
            shape = self._write_to(file, texts, vectors)
            if self._form is Format.NPY:  # after an interruption here the vectors have no description, not the old one
                _beside(self._output).unlink(missing_ok=True)
        if self._form is Format.NPY:
            with _whole(_beside(self._output)) as file:
                described = self._description | {"rows": shape[0], "dimensions": shape[1]}
                file.write(json.dumps(described, ensure_ascii=False, indent=1).encode() + b"\n")

    def _write_to(self, file: IO[bytes], texts: Sequence[str], vectors: "Iterable[Vectors]") -> tuple[int, int]:
        import numpy as np

        if self._form is Format.JSON:
            for index, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
                line = {"index": index, "text": text, **self._description, "embedding": shortest(vector)}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                self.rows += 1
            return self.rows, 0
        whole = np.stack(list(vectors))
        if self._form is Format.NPY:
            np.save(file, whole)
        else:
            file.write(_table(texts, whole, self._description).encode())
        self.rows = len(whole)
        return whole.shape[0], whole.shape[1]


def shortest(vector: "Vectors") -> list[float]:
    """Return the numbers of a vector as floats that print with the fewest digits that restore the float32 value."""
    return [float(str(number)) for number in vector]


def _beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.json")


@contextmanager
def _whole(output: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `output` once it is complete."""
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _table(texts: Sequence[str], vectors: "Vectors", description: dict[str, Any]) -> str:
    import numpy as np

    caption = "\n".join(f"{name} {value}" for name, value in description.items() if value is not None)
    table = Table("text", f"first of {vectors.shape[1]} numbers", "length", caption=caption, caption_justify="left")
    for text, vector in zip(texts, vectors, strict=True):
        start = text if len(text) <= 40 else text[:39] + "…"
        numbers = "  ".join(f"{number:+.4f}" for number in vector[:6])
        table.add_row(start, numbers, f"{np.linalg.norm(vector):.4f}")
    console = Console(width=110, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
