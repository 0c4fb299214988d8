"""`embergem embed`: read texts, embed them, and write the vectors as JSON lines, as a NumPy file or as a table."""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embergem.cli import text_files
from embergem.cli.options import ARITHMETIC, DENSE, FAMILY, HUB, complete_task, with_load_options
from embergem.cli.vector_files import SUFFIXES, Format, VectorWriter, choose_format
from embergem.errors import InputTooLong, TruncationWarning, UnsupportedOption
from embergem.options import LoadOptions

if TYPE_CHECKING:
    from embergem.types import Vectors

PROGRESS_SECONDS = 10.0
"""Time between two progress lines, where standard error is no terminal."""


@with_load_options("model", *ARITHMETIC, *FAMILY, *DENSE, *HUB)
def embed(
    options: LoadOptions,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts. Without texts, lines are read from stdin.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Read texts from this file: one a line, a field of JSON lines (.jsonl) or a column (.csv, .tsv). "
            "- is stdin, one text a line.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help=f"Column or field that has the text, for --file. Default: {text_files.TEXT_COLUMN}."),
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
            f"Default: by the suffix of --output ({', '.join(name for name in SUFFIXES if name)})."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no warnings.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the model and a summary.")] = False,
) -> None:
    """Embed texts. Rows are written as soon as their vectors are there.

    [bold]Examples[/bold]

    embergem embed "What is graphene?" "What is an apple?"

    embergem embed -m google/embeddinggemma-300m --task document -f corpus.txt -o corpus.npy

    cat questions.txt | embergem embed --task query -m google/embeddinggemma-300m > questions.jsonl
    """
    from embergem.embedder import Embedder
    from embergem.open_backend import open_backend

    form = choose_format(format, output)
    if texts and file is not None:
        raise UnsupportedOption("Texts are given both as arguments and with --file. Use only one of the two.")
    if texts and column is not None:
        raise UnsupportedOption("--column needs a file: name it with --file, or leave out --column.", param="column")
    inputs = list(texts) if texts else text_files.read_texts(file, column)
    progress = Progress(len(inputs), quiet=quiet, verbose=verbose)
    with Embedder(open_backend(options)) as embedder, _warnings_on_stderr(quiet):
        description: dict[str, Any] = {
            "model": embedder.model,
            "dtype": embedder.dtype,
            "fingerprint": embedder.fingerprint,
            "task": task,
        }
        progress.say(f"model {embedder.model}, dtype {embedder.dtype}, space {embedder.fingerprint}")
        writer = VectorWriter(form, output, description)
        vectors = embedder.embed_stream(
            inputs, task=task, title=title, dimensions=dimensions, truncate=truncate, progress=False if quiet else None
        )
        try:
            writer.write(inputs, progress.count(vectors))
        except KeyboardInterrupt:
            done = (
                f"{writer.rows:,} of {len(inputs):,} rows were written"
                if output is None
                else f"{output} was not written"
            )
            typer.echo(f"Stopped with Ctrl-C: {done}.", err=True)
            raise
        except InputTooLong as error:
            error.add_advice("On the command line, --truncate cuts it.")
            raise
        progress.finish()


class Progress:
    """Progress lines on standard error, for logs and pipes; a terminal has the bar of `embed_stream`.

    Args:
        total: Number of texts.
        quiet: Print nothing.
        verbose: Print what `say` is given, and a summary.
    """

    def __init__(self, total: int, *, quiet: bool, verbose: bool) -> None:
        self._total = total
        self._lines = not quiet and not sys.stderr.isatty()
        self._verbose = verbose and not quiet
        self._start = self._last = time.monotonic()
        self._done = 0

    def say(self, message: str) -> None:
        """Print a message for `--verbose`."""
        if self._verbose:
            typer.echo(message, err=True)

    def count(self, vectors: "Iterable[Vectors]") -> "Iterator[Vectors]":
        """Yield the vectors and print how many there were, every `PROGRESS_SECONDS`."""
        for vector in vectors:
            yield vector
            self._done += 1
            now = time.monotonic()
            if self._lines and now - self._last >= PROGRESS_SECONDS:
                self._last = now
                typer.echo(f"{self._done:,} of {self._total:,} texts, {self._rate(now)}", err=True)

    def finish(self) -> None:
        """Print the summary for `--verbose`."""
        now = time.monotonic()
        self.say(f"{self._done:,} texts in {now - self._start:.1f} s, {self._rate(now)}")

    def _rate(self, now: float) -> str:
        return f"{self._done / max(now - self._start, 1e-9):,.0f} texts/s"


@contextmanager
def _warnings_on_stderr(quiet: bool) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", TruncationWarning)
        yield
    for warning in caught:
        if not quiet:
            typer.echo(f"warning: {warning.message}", err=True)
