"""`embergem embed`: where texts come from and how vectors are written."""

import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from embergem.cli.app import Format
from embergem.embedder import Embedder, open_backend
from embergem.errors import EmptyInput, InvalidText, TruncationWarning, UnsupportedOption
from embergem.options import LoadOptions
from embergem.types import Vectors


def run(
    *,
    texts: Sequence[str],
    file: Path | None,
    task: str | None,
    title: str | None,
    dimensions: int | None,
    truncate: bool,
    form: Format | None,
    output: Path | None,
    options: LoadOptions,
) -> None:
    """Read, embed, write. A file at `output` appears whole or not at all.

    What the vectors are (model, dtype, fingerprint of the space, task) stands in each JSON line and below a table. A
    NumPy file has no place for it: `corpus.npy` gets a `corpus.npy.json` beside it.
    """
    form = form or _format(output)
    if form is Format.NPY and output is None and sys.stdout.isatty():
        raise UnsupportedOption("a NumPy file is not for a terminal; name one with --output, or use a pipe")
    inputs = _read(texts, file)
    about: dict[str, Any]
    with Embedder(open_backend(options)) as embedder, _warnings_on_stderr():
        vectors = embedder.embed(inputs, task=task, title=title, dimensions=dimensions, truncate=truncate)
        about = {
            "model": embedder.model,
            "dtype": embedder.dtype,
            "fingerprint": embedder.fingerprint,
            "task": task,
        }
    _write(inputs, vectors, about, form, output)


def _format(output: Path | None) -> Format:
    suffix = output.suffix if output else ""
    return {".npy": Format.NPY, ".txt": Format.TABLE}.get(suffix, Format.JSON)


def _read(texts: Sequence[str], file: Path | None) -> list[str]:
    if texts and file is not None:
        raise UnsupportedOption("texts are given both as arguments and with --file; use one of them")
    if texts:
        return list(texts)
    if file is None and sys.stdin.isatty():
        raise EmptyInput("nothing to embed: give texts as arguments, a file with --file, or lines on stdin")
    source = "stdin" if file is None or str(file) == "-" else str(file)
    data = sys.stdin.buffer.read() if source == "stdin" else Path(source).read_bytes()
    try:
        # Lines end at newlines only: other separators that Python knows belong to the text.
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidText(f"{source} is not valid UTF-8 at byte {error.start}; convert it first") from None
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise EmptyInput(f"{source} has no line to embed")
    return [line.removesuffix("\r") for line in lines]


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        yield
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)


def _write(inputs: Sequence[str], vectors: Vectors, about: dict[str, Any], form: Format, output: Path | None) -> None:
    if output is None:
        try:
            _write_to(sys.stdout.buffer, inputs, vectors, about, form)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, such as head, has enough: end quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with _whole(output) as file:
        _write_to(file, inputs, vectors, about, form)
        if form is Format.NPY:  # vectors that an interruption leaves alone have no description rather than an old one
            _beside(output).unlink(missing_ok=True)
    if form is Format.NPY:
        with _whole(_beside(output)) as file:
            described = about | {"rows": vectors.shape[0], "dimensions": vectors.shape[1]}
            file.write(json.dumps(described, ensure_ascii=False, indent=1).encode() + b"\n")


def _beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.json")


@contextmanager
def _whole(output: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `output` when it is whole."""
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _write_to(file: IO[bytes], inputs: Sequence[str], vectors: Vectors, about: dict[str, Any], form: Format) -> None:
    match form:
        case Format.NPY:
            np.save(file, vectors)
        case Format.JSON:
            for index, (text, vector) in enumerate(zip(inputs, vectors, strict=True)):
                line = {"index": index, "text": text, **about, "embedding": shortest(vector)}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        case Format.TABLE:
            file.write(_table(inputs, vectors, about).encode())


def shortest(vector: Vectors) -> list[float]:
    """Return a vector as Python floats with the fewest digits that read back as the same float32."""
    return [float(str(number)) for number in vector]


def _table(inputs: Sequence[str], vectors: Vectors, about: dict[str, Any]) -> str:
    said = "\n".join(f"{name} {value}" for name, value in about.items() if value is not None)
    table = Table("text", f"first of {vectors.shape[1]} numbers", "length", caption=said, caption_justify="left")
    for text, vector in zip(inputs, vectors, strict=True):
        start = text if len(text) <= 40 else text[:39] + "…"
        numbers = "  ".join(f"{number:+.4f}" for number in vector[:6])
        table.add_row(start, numbers, f"{np.linalg.norm(vector):.4f}")
    console = Console(width=110, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
