"""`embergem embed`: read texts, embed them, and write the vectors as JSON lines, as a NumPy file or as a table."""

import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from embergem.cli.options import ARITHMETIC, DENSE, FAMILY, HUB, complete_task, with_load_options
from embergem.errors import EmptyInput, InvalidText, TruncationWarning, UnsupportedOption
from embergem.options import LoadOptions

if TYPE_CHECKING:
    from embergem.types import Vectors


class Format(StrEnum):
    """File formats of the vectors."""

    JSON = "json"
    NPY = "npy"
    TABLE = "table"


@with_load_options("model", *ARITHMETIC, *FAMILY, *DENSE, *HUB)
def embed(
    options: LoadOptions,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts. Without texts, lines are read from stdin.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read one text a line from this file (- is stdin).")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Put the model's prompt for this task around each text.", autocompletion=complete_task),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the documents, with --task document.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Cut vectors to this size (Matryoshka).")] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts above the token limit, with a warning.")
    ] = False,
    format: Annotated[  # noqa: A002 - the option is called that
        Format | None,
        typer.Option(
            help="JSON lines, a NumPy file (with its description in a file .npy.json beside it), or a table to read. "
            "Default: by the suffix of --output."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")] = None,
) -> None:
    """Embed texts.

    [bold]Examples[/bold]

    embergem embed "What is graphene?" "What is an apple?"

    embergem embed -m google/embeddinggemma-300m --task document -f corpus.txt -o corpus.npy

    cat questions.txt | embergem embed --task query -m google/embeddinggemma-300m > questions.jsonl
    """
    from embergem.embedder import Embedder
    from embergem.open_backend import open_backend

    form = format or _format(output)
    if form is Format.NPY and output is None and sys.stdout.isatty():
        raise UnsupportedOption("A NumPy file cannot be shown on a terminal. Name a file with --output, or use a pipe.")
    inputs = _read(texts or [], file)
    with Embedder(open_backend(options)) as embedder, _warnings_on_stderr():
        vectors = embedder.embed(inputs, task=task, title=title, dimensions=dimensions, truncate=truncate)
        description: dict[str, Any] = {
            "model": embedder.model,
            "dtype": embedder.dtype,
            "fingerprint": embedder.fingerprint,
            "task": task,
        }
    _write(inputs, vectors, description, form, output)


def _format(output: Path | None) -> Format:
    suffix = output.suffix if output else ""
    return {".npy": Format.NPY, ".txt": Format.TABLE}.get(suffix, Format.JSON)


def _read(texts: Sequence[str], file: Path | None) -> list[str]:
    if texts and file is not None:
        raise UnsupportedOption("Texts are given both as arguments and with --file. Use only one of the two.")
    if texts:
        return list(texts)
    if file is None and sys.stdin.isatty():
        raise EmptyInput("There are no texts to embed. Give texts as arguments, a file with --file, or lines on stdin.")
    source = "stdin" if file is None or str(file) == "-" else str(file)
    data = sys.stdin.buffer.read() if source == "stdin" else Path(source).read_bytes()
    try:
        # Only newlines end a line; the other separators of str.splitlines belong to the text.
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidText(f"{source} is not valid UTF-8 at byte {error.start}. Convert it to UTF-8 first.") from None
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise EmptyInput(f"{source} is empty. Write one text on each line.")
    return [line.removesuffix("\r") for line in lines]


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        yield
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)


def _write(
    inputs: Sequence[str], vectors: "Vectors", description: dict[str, Any], form: Format, output: Path | None
) -> None:
    """Write vectors to stdout or to a file.

    The description of the vectors is part of each JSON line and below a table. A NumPy file has no place for it, so
    `corpus.npy` gets the description in a second file `corpus.npy.json`.
    """
    if output is None:
        try:
            _write_to(sys.stdout.buffer, inputs, vectors, description, form)
            sys.stdout.flush()
        except BrokenPipeError:  # the reading process, such as head, closed the pipe: end without an error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with _whole(output) as file:
        _write_to(file, inputs, vectors, description, form)
        if form is Format.NPY:  # after an interruption here the vectors have no description, not the old one
            _beside(output).unlink(missing_ok=True)
    if form is Format.NPY:
        with _whole(_beside(output)) as file:
            described = description | {"rows": vectors.shape[0], "dimensions": vectors.shape[1]}
            file.write(json.dumps(described, ensure_ascii=False, indent=1).encode() + b"\n")


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


def _write_to(
    file: IO[bytes], inputs: Sequence[str], vectors: "Vectors", description: dict[str, Any], form: Format
) -> None:
    match form:
        case Format.NPY:
            import numpy as np

            np.save(file, vectors)
        case Format.JSON:
            for index, (text, vector) in enumerate(zip(inputs, vectors, strict=True)):
                line = {"index": index, "text": text, **description, "embedding": shortest(vector)}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        case Format.TABLE:
            file.write(_table(inputs, vectors, description).encode())


def shortest(vector: "Vectors") -> list[float]:
    """Return the numbers of a vector as floats that print with the fewest digits that restore the float32 value."""
    return [float(str(number)) for number in vector]


def _table(inputs: Sequence[str], vectors: "Vectors", description: dict[str, Any]) -> str:
    import numpy as np

    caption = "\n".join(f"{name} {value}" for name, value in description.items() if value is not None)
    table = Table("text", f"first of {vectors.shape[1]} numbers", "length", caption=caption, caption_justify="left")
    for text, vector in zip(inputs, vectors, strict=True):
        start = text if len(text) <= 40 else text[:39] + "…"
        numbers = "  ".join(f"{number:+.4f}" for number in vector[:6])
        table.add_row(start, numbers, f"{np.linalg.norm(vector):.4f}")
    console = Console(width=110, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
