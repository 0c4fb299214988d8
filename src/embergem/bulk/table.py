"""`embed_table`: the function behind `embergem embed`. It embeds a corpus and writes a table of vectors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, Unpack

from embergem.bulk.job import Job
from embergem.bulk.job_options import ChunkPool, JobOptions, OnError, OutputDtype, TooLong
from embergem.bulk.output_formats import choose_format, keep_columns
from embergem.bulk.progress_state import Progress
from embergem.bulk.source import open_source
from embergem.bulk.streaming import stream_batches
from embergem.bulk.text_readers import Selection
from embergem.embedder import Embedder
from embergem.keywords import checked_keywords
from embergem.open_backend import to_backend
from embergem.sdk.backend import Backend


class JobKeywords(TypedDict, total=False):
    """The fields of `JobOptions` as keyword arguments."""

    column: str | None
    id: str | None
    title: str | None
    title_text: str | None
    keep: tuple[str, ...] | list[str] | None
    into: str
    task: str | None
    dimensions: int | None
    output_dtype: OutputDtype
    on_error: OnError
    too_long: TooLong
    chunk_overlap: int
    chunk_pool: ChunkPool


@checked_keywords
def embed_table(
    source: Any,
    sink: str | Path | None = None,
    model: Embedder | Backend | str | Path | None = None,
    *,
    overwrite: bool = False,
    append: bool = False,
    reuse: str | Path | None = None,
    report: str | Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Unpack[JobKeywords],
) -> Any:
    """Embed the texts of a source and write them with their vectors to a file, or return them as Arrow data.

    A job that was killed continues when the function is called again with the same arguments; the output then has the
    same bytes as without the interruption.

    Args:
        source: Path of a Parquet, Arrow, CSV, TSV, JSON lines or text file, a directory, a glob pattern, or a list of
            these. Or a pyarrow table, dataset or record batch reader; such a job cannot be continued.
        sink: File to write; its suffix is the format: .parquet, .arrow, .lance, .npy or .jsonl. None returns the rows.
        model: An embedder or an open backend, or the name of a model; None is the default model.
        overwrite: Replace an existing file, and discard an unfinished job that this one cannot continue.
        append: Put the rows after those of an existing output of the same space. A new output is written otherwise.
        reuse: Parquet or Arrow file of an earlier job: its vectors are used for the texts that have not changed.
        report: File for the list of bad, cut and divided rows; None is a file beside `sink`.
        on_progress: Called with the state of the job after each block of rows.
        options: The fields of `JobOptions`.

    Returns:
        A `job.Summary` of what happened to the rows. Without `sink`, a `pyarrow.RecordBatchReader`: the vectors are
        computed while it is read, and the model has to stay open.

    Raises:
        UnsupportedOption: A file does not have the columns, or an option is not possible.
        InvalidRequest: A row is refused by the policy; the message has its file and place.
        JobError: The output is in use or belongs to another job, or the disk is full.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from embergem.bulk import embed_table
        >>> directory = Path(tempfile.mkdtemp())
        >>> _ = (directory / "corpus.txt").write_text(chr(10).join(["graphene", "apples", "graphene"]))
        >>> model = "tests/data/goldens/gemma3_text"
        >>> summary = embed_table(directory / "corpus.txt", directory / "corpus.npy", model)
        >>> summary.counts.rows, summary.counts.computed
        (3, 2)
    """
    if options.get("keep") is not None:
        options["keep"] = tuple(options["keep"] or ())
    chosen = JobOptions(**options)  # type: ignore[arg-type]  # `keep` is a tuple now
    output = None if sink is None else Path(sink)
    form = None if output is None else choose_format(output)
    selection = Selection(chosen.column, chosen.title, keep_columns(chosen, form))
    opened = open_source(source, selection)
    backend = model._backend if isinstance(model, Embedder) else to_backend(model)
    if output is None:
        return stream_batches(opened, backend, chosen)
    try:
        job = Job(
            opened,
            output,
            backend,
            chosen,
            overwrite=overwrite,
            append=append,
            reuse=None if reuse is None else Path(reuse),
            report=None if report is None else Path(report),
        )
        return job.run(on_progress)
    finally:
        if model is None or isinstance(model, str | Path):
            backend.close()
