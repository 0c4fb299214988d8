"""`embergem embed`: embed texts or a corpus in files, and write the vectors to stdout or to a file."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embergem.cli.embed_run import EmbedRun, reader_may_stop
from embergem.cli.options import ARITHMETIC, DENSE, FAMILY, HUB, complete_task, with_load_options
from embergem.errors import EmptyInput, UnsupportedOption
from embergem.options import LoadOptions
from embergem.progress import silent

if TYPE_CHECKING:
    from embergem.sdk.backend import Backend


class Format(StrEnum):
    """Formats of the output."""

    JSON = "json"
    NPY = "npy"
    TABLE = "table"
    PARQUET = "parquet"
    ARROW = "arrow"
    LANCE = "lance"


class OutputDtype(StrEnum):
    """Forms of the vectors."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


class OnError(StrEnum):
    """What becomes of a row without a valid text."""

    STOP = "stop"
    NULL = "null"
    SKIP = "skip"


class TooLong(StrEnum):
    """What becomes of a text above the token limit."""

    STOP = "stop"
    TRUNCATE = "truncate"
    CHUNK = "chunk"


class ChunkPool(StrEnum):
    """What becomes of the chunks of a text."""

    EACH = "each"
    MEAN = "mean"


_ROWS = "Rows of the source"
_OUTPUT = "Output"
_RAY = "Ray cluster"


@with_load_options("model", *ARITHMETIC, *FAMILY, *DENSE, *HUB)
def embed(
    options: LoadOptions,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|FILE",
            help="Texts, or files, directories and patterns such as 'data/*.parquet'. An argument with the suffix of a "
            "known format is a file. Without arguments, lines are read from stdin.",
        ),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            "-f",
            help="Read texts from this file, directory or pattern: .parquet, .arrow, .feather, .csv, .tsv, .jsonl, or "
            "one text a line. Text files may end with .gz, .bz2 or .zst. - is stdin. May be repeated.",
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column or field that has the text. Default: text.", rich_help_panel=_ROWS),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", help="Column of the ids. Default: index, the row number.", rich_help_panel=_ROWS),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            help="Column of the titles, with --task document. For texts without columns: the title itself.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    title_text: Annotated[
        str | None, typer.Option(help="One title for all rows of a file.", rich_help_panel=_ROWS)
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Column to copy to the output. May be repeated.", rich_help_panel=_ROWS),
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(
            help="Rows without a valid text: stop, null (written without a vector), or skip.", rich_help_panel=_ROWS
        ),
    ] = OnError.STOP,
    too_long: Annotated[
        TooLong | None,
        typer.Option(
            help="Texts above the token limit: stop (the default), truncate, or chunk, which embeds them in parts.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="The same as --too-long truncate.", rich_help_panel=_ROWS)
    ] = False,
    chunk_overlap: Annotated[
        int, typer.Option(help="Tokens that neighbouring chunks share, about.", rich_help_panel=_ROWS)
    ] = 0,
    chunk_pool: Annotated[
        ChunkPool,
        typer.Option(
            help="each: one row a chunk. mean: one row a text, the mean of its chunks weighted by tokens.",
            rich_help_panel=_ROWS,
        ),
    ] = ChunkPool.EACH,
    task: Annotated[
        str | None,
        typer.Option(help="Put the model's prompt for this task around each text.", autocompletion=complete_task),
    ] = None,
    dimensions: Annotated[int | None, typer.Option(help="Cut vectors to this size (Matryoshka).")] = None,
    output_dtype: Annotated[
        OutputDtype,
        typer.Option(help="Numbers of the vectors: float32, float16, int8 or binary.", rich_help_panel=_OUTPUT),
    ] = OutputDtype.FLOAT32,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file, not to stdout.", rich_help_panel=_OUTPUT),
    ] = None,
    format: Annotated[  # noqa: A002 - the option is called that
        Format | None,
        typer.Option(
            help="json (lines), npy, table, parquet, arrow or lance. Default: by the suffix of --output (.jsonl, .npy, "
            ".txt for a table to read, .parquet, .arrow, .lance), or json.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    into: Annotated[str, typer.Option(help="Name of the column of the vectors.", rich_help_panel=_OUTPUT)] = (
        "embedding"
    ),
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an existing output, and discard an unfinished job that is another one.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help="Put the rows after those of an existing output of the same space.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    reuse: Annotated[
        Path | None,
        typer.Option(
            help="Take the vectors of unchanged texts from this .parquet or .arrow output of an earlier job.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="File that lists bad, cut and divided rows. Default: OUTPUT.report.jsonl, if there are any.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Compute on the nodes of a Ray cluster: auto (the running one), local (one of this machine, for the "
            "job), or HOST:PORT. Without an address: the running one if there is one, and else local.",
            rich_help_panel=_RAY,
        ),
    ] = None,
    ray_workers: Annotated[
        int | None, typer.Option(help="Number of engines on the cluster. Default: one a node.", rich_help_panel=_RAY)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no warnings.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the model and a summary.")] = False,
    json_progress: Annotated[
        bool, typer.Option("--json-progress", help="Print the progress as JSON lines on stderr.")
    ] = False,
) -> None:
    """Embed texts or files. Rows are written in order; equal texts are computed once.

    A job that reads files and writes a file can be stopped at any time, also by a crash: run the same command again to
    continue it.

    For example:

    embergem embed "What is graphene?" "What is an apple?"

    embergem embed corpus.parquet -o vectors.parquet --column body --id id --task document -m embeddinggemma

    cat questions.txt | embergem embed --task query -m google/embeddinggemma-300m > questions.jsonl
    """
    from embergem.bulk.job_options import JobOptions
    from embergem.bulk.output_formats import choose_format, keep_columns, require_file
    from embergem.bulk.source import Texts, open_source
    from embergem.bulk.text_readers import Selection

    if truncate and too_long not in (None, TooLong.TRUNCATE):
        raise UnsupportedOption("--truncate and --too-long are both given. Use only one of the two.", param="too_long")
    rows = _rows_of(inputs or [], file or [])
    has_columns = not isinstance(rows, Texts) and rows != ["-"]
    job = JobOptions(
        column=column,
        id=id_,
        title=title if has_columns else None,
        title_text=title_text if has_columns else title_text or title,
        keep=tuple(keep) if keep else None,
        into=into,
        task=task,
        dimensions=dimensions,
        output_dtype=output_dtype.value,
        on_error=on_error.value,
        too_long="truncate" if truncate else (too_long or TooLong.STOP).value,
        chunk_overlap=chunk_overlap,
        chunk_pool=chunk_pool.value,
    )
    form = (format or Format.JSON).value if output is None else choose_format(output, format and format.value)
    if output is None and form == Format.LANCE:
        raise UnsupportedOption("A Lance dataset is a directory. Name it with --output, such as vectors.lance.")
    if output is None and form in (Format.NPY, Format.PARQUET, Format.ARROW) and sys.stdout.isatty():
        raise UnsupportedOption(
            f"The format {form} cannot be shown on a terminal. Name a file with --output, or use a pipe."
        )
    if report is not None:
        require_file(report, "report")
    if output is None and (append or reuse or overwrite):
        name = "append" if append else "reuse" if reuse else "overwrite"
        raise UnsupportedOption(f"--{name} needs an output file: name it with --output.", param=name)
    source = open_source(rows, Selection(job.column, job.title, keep_columns(job, form)))
    run = EmbedRun(job, source, form, report, quiet=quiet, verbose=verbose, as_json=json_progress)
    if ray is None and ray_workers is not None:
        raise UnsupportedOption(
            f"--ray-workers {ray_workers} needs a cluster. Add --ray with its address, or leave it out.",
            param="ray_workers",
        )
    with silent(quiet), closing(_open(options, ray, ray_workers)) as backend:
        run.say(f"model {backend.id}, dtype {backend.dtype}, space {backend.fingerprint}")
        if output is not None:
            run.to_file(backend, output, overwrite=overwrite, append=append, reuse=reuse)
        elif form == Format.JSON:
            run.to_stdout(backend)
        else:
            if form == Format.TABLE and sys.stdout.isatty():
                from embergem.bulk.table_writer import table_columns

                table_columns.set(shutil.get_terminal_size().columns)
            with tempfile.TemporaryDirectory(prefix="embergem-") as directory:
                whole = Path(directory) / "vectors"
                run.to_file(backend, whole, overwrite=True)
                with reader_may_stop(), whole.open("rb") as data:
                    shutil.copyfileobj(data, sys.stdout.buffer)
                    sys.stdout.flush()


def _open(options: LoadOptions, ray: str | None, workers: int | None) -> "Backend":
    if ray is None:
        from embergem.open_backend import open_backend

        return open_backend(options)
    from embergem.ray.distributed import DistributedModel

    return DistributedModel(options, ray, workers)


def _rows_of(inputs: Sequence[str], files: Sequence[str]) -> Any:
    """Return the source that the arguments and `--file` name, for `open_source`.

    Raises:
        UnsupportedOption: Both name a source, or the arguments are texts and files.
        EmptyInput: Nothing names a source, and stdin is a terminal.
    """
    from embergem.bulk.source import Texts, names_a_source

    named = [name for name in inputs if names_a_source(name)]
    if named and len(named) < len(inputs):
        text = next(name for name in inputs if name not in named)
        raise UnsupportedOption(
            f"The argument {named[0]!r} is a file and {text!r} is a text. Give only files, or only texts. A text that "
            "looks like a file can be sent to stdin."
        )
    if inputs and files:
        kind = "files" if named else "texts"
        raise UnsupportedOption(
            f"{kind.capitalize()} are given both as arguments and with --file. Use only one of the two."
        )
    if named or files:
        return [*named, *files]
    if inputs:
        return Texts(list(inputs))
    if sys.stdin.isatty():
        raise EmptyInput("There are no texts to embed. Give texts as arguments, a file with --file, or lines on stdin.")
    return ["-"]
