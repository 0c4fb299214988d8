"""`Job`: embeds a source into one output file, and continues where an earlier process stopped.

The path of a row: `Source` reads it, `BlockMaker` tokenizes it, `Computer` embeds it, `PartBuilder` collects it, and
`JobStore` writes it. When all rows are in finished parts, the output is assembled from the parts and the job's
directory is deleted.
"""

import hashlib
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embergem import __version__
from embergem.bulk.blocks import BlockMaker, Counts
from embergem.bulk.encoder import make_encoder
from embergem.bulk.job_options import JobOptions, difference
from embergem.bulk.job_store import Committer, JobStore, job_directory, raise_for
from embergem.bulk.manifest import PartRecord
from embergem.bulk.output_formats import choose_format, make_format
from embergem.bulk.parts import Part, PartBuilder
from embergem.bulk.pipeline import BLOCKS_AHEAD, Computer, read_ahead
from embergem.bulk.progress_state import Progress, ProgressClock
from embergem.bulk.rows import ProblemCounts
from embergem.bulk.source import Source, changed
from embergem.bulk.writers import FinishedPart, write_report
from embergem.errors import EmptyInput, JobError
from embergem.sdk.backend import Backend


class Summary(msgspec.Struct, frozen=True):
    """The result of a job.

    Attributes:
        output: The output.
        counts: What happened to the rows.
        seconds: Time that this process took to embed and to write.
        continued: Source rows that were finished before this process began.
        complete: Whether the output was there already, and nothing was done.
        report: The file that lists bad, cut and divided rows; None if there are none.
        problems: Number and first places of these rows, by kind.
        description: The metadata of the output.
    """

    output: Path
    counts: Counts
    seconds: float
    continued: int
    complete: bool
    report: Path | None
    problems: dict[str, tuple[int, list[str]]]
    description: dict[str, Any]


class Job:
    """One job; `run` does it.

    Args:
        source: The rows.
        output: The file to write.
        backend: The model.
        options: How rows become rows of the output.
        form: Name of the output's format; None is that of the suffix.
        overwrite: Replace an existing output, and discard an unfinished job that this one cannot continue.
        report: File for the list of bad rows; None is a file beside the output.

    Raises:
        UnsupportedOption: The suffix of the output is no format, its directory does not exist, or an option does not
            fit the format or the model.
    """

    def __init__(
        self,
        source: Source,
        output: Path,
        backend: Backend,
        options: JobOptions,
        *,
        form: str | None = None,
        overwrite: bool = False,
        report: Path | None = None,
    ) -> None:
        self.source = source
        self.output = output
        self.options = options
        self._encoder = make_encoder(backend, options)
        self._backend = backend
        self._overwrite = overwrite
        self._report = report or output.with_name(f"{output.name}.report.jsonl")
        example = Computer(self._encoder, options)
        self.space = describe_space(backend, options)
        self._width, self._dtype = example.width, example.dtype
        name = choose_format(output, form)
        self._format = make_format(name, options, source, self.space, example.dtype, example.width)
        self._identity: dict[str, Any] = {
            "options": options.to_json(),
            "model": {**self.space, "instruction_set": getattr(backend, "instruction_set", None)},
            "format": name,
            "sources": [msgspec.to_builtins(state) for state in source.states],
            "resumable": source.resumable,
        }

    @property
    def digest(self) -> str:
        """Name of the job: two jobs with the same name write the same output."""
        return hashlib.sha256(msgspec.json.encode(self._identity, order="deterministic")).hexdigest()[:32]

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Summary:
        """Embed all rows and write the output.

        Raises:
            JobError: The output is in use or belongs to another job, or the disk is full.
            InvalidRequest: A row is refused by the policy, or the source was changed.
        """
        if (found := self._finished_before()) is not None:
            return found
        store = JobStore(self.output)
        delete = not self.source.resumable
        try:
            self._open(store)
            start = time.monotonic()
            continued = store.counts.source_rows
            try:
                self._embed(store, on_progress)
            finally:
                delete = delete or not store.records  # nothing is lost
            if not store.counts.source_rows:
                raise EmptyInput(f"{self.source.name} is empty. Write one text on each line.")
            self.source.require_unchanged()
            summary = self._finish(store, continued, start)
            delete = True
            return summary
        finally:
            store.close(delete=delete)

    def _finished_before(self) -> Summary | None:
        """Return the summary of an output that this job wrote already.

        Raises:
            JobError: The output is another one, and may not be replaced.
        """
        if not self.output.exists() or self._overwrite or not self.source.resumable:
            return None
        if job_directory(self.output).exists():
            return None  # the job was stopped between writing the output and deleting its directory, or overwrites it
        description = self._format.description(self.output)
        if description is not None and self.digest in description.get("jobs", ()):
            counts = msgspec.convert(description["counts"], Counts)
            return Summary(self.output, counts, 0.0, counts.source_rows, True, None, {}, description)
        raise JobError(
            f"{self.output} exists and was written by another job. --overwrite replaces it, or name another output."
        )

    def _open(self, store: JobStore) -> None:
        """Open the manifest of a job to continue, or begin a new one."""
        store.dtype, store.row_bytes = self._dtype, self._width * self._dtype.itemsize
        manifest = store.directory / "manifest.sqlite"
        if manifest.exists() and not self.source.resumable:
            store.clear()
        if manifest.exists():
            try:
                store.open_manifest()
                self._require_same(store)
                return
            except JobError:
                if not self._overwrite:
                    raise
                store.discard()
        elif self.output.exists() and self.source.resumable and not self._overwrite:
            raise JobError(
                f"{self.output} exists and was written by another job. --overwrite replaces it, or name another output."
            )
        store.clear()
        store.open_manifest()
        store.manifest.set(**self._identity)

    def _require_same(self, store: JobStore) -> None:
        """Refuse to continue another job, or one whose source has changed."""
        before = {name: store.manifest.get(name) for name in self._identity}
        if before["options"] is None:  # stopped before the description was stored
            store.manifest.set(**self._identity)
            return
        reason = difference(before["options"], self._identity["options"])
        for name, value in self._identity["model"].items():
            was = before["model"].get(name)
            if reason is None and was != value:
                reason = f"{name} of the model was {was} and is now {value}"
        if reason is None and before["format"] != self._identity["format"]:
            reason = "the format of the output is another one"
        if reason is not None:
            raise JobError(
                f"{store.directory} has an unfinished job that is another one: {reason}. Run the command as it was, or "
                "discard that job with --overwrite."
            )
        old, new = before["sources"], self._identity["sources"]
        if [state["path"] for state in old] != [state["path"] for state in new]:
            raise JobError(
                f"{store.directory} has an unfinished job of other files: {', '.join(s['path'] for s in old[:3])}. Run "
                "the command as it was, or discard that job with --overwrite."
            )
        for was, now in zip(old, new, strict=True):
            if was != now:
                raise changed(now["path"])
        store.manifest.set(options=self._identity["options"])  # "stop" may have become another policy

    def _embed(self, store: JobStore, on_progress: Callable[[Progress], None] | None) -> None:
        """Embed the rows that are in no finished part. Computed rows are kept when the job is stopped."""
        maker = BlockMaker(self._encoder, self.options)
        computer = Computer(self._encoder, self.options, store)
        builder = PartBuilder(self.options, list(self.source.selection.keep))
        counts = store.counts
        clock = ProgressClock(self.source, counts)

        def commit(part: Part) -> PartRecord:
            self.source.require_unchanged()
            return store.commit(part, self._format.write_rows)

        committer = Committer(commit)
        try:
            batches = self.source.batches(store.position)
            with read_ahead(maker.blocks(batches), BLOCKS_AHEAD) as blocks:
                for computed in computer.blocks(blocks):
                    committer.check()
                    counts.add(computed.counts)
                    if (part := builder.add(computed)) is not None:
                        committer.put(part)
                    computer.release(committer.rows)
                    if on_progress is not None:
                        on_progress(clock.progress(computed.block.batch.bytes_read))
        finally:
            try:
                if (part := builder.flush()) is not None:
                    committer.put(part)
            finally:
                committer.close()

    def _finish(self, store: JobStore, continued: int, start: float) -> Summary:
        """Assemble the output, write the report, and return the summary."""
        counts = store.counts
        report = None
        description = {
            **self.space,
            "rows": counts.rows,
            "counts": msgspec.to_builtins(counts),
            "jobs": [self.digest],
        }
        try:
            self._format.assemble(finished_parts(store, self._width), self.output, description)
            problems = ProblemCounts()
            for problem in store.manifest.problems():
                problems.add(problem)
            if problems.kinds:
                report = self._report
                write_report(report, store.manifest.problems())
            else:
                self._report.unlink(missing_ok=True)  # that of an earlier job
        except OSError as error:
            raise_for(error, self.output)
        return Summary(
            self.output, counts, time.monotonic() - start, continued, False, report, problems.kinds, description
        )


def finished_parts(store: JobStore, width: int) -> Iterator[FinishedPart]:
    """Yield the parts of a job for `OutputFormat.assemble`; checks the sums of their files."""
    for record, vectors, rows in store.part_files():
        _require_intact(rows, record.rows_size, record.rows_crc)

        def load(path: Path = vectors, record: PartRecord = record) -> Any:
            data = path.read_bytes()
            if (len(data), zlib.crc32(data)) != (record.vectors_size, record.vectors_crc):
                raise _damaged(path)
            return np.frombuffer(data, dtype=store.dtype).reshape(record.rows, width)

        yield FinishedPart(record.rows, record.counts.null, load, rows)


def _require_intact(path: Path, size: int, crc: int) -> None:
    found = length = 0
    with path.open("rb") as file:
        while data := file.read(2**22):
            found, length = zlib.crc32(data, found), length + len(data)
    if (length, found) != (size, crc):
        raise _damaged(path)


def _damaged(path: Path) -> JobError:
    return JobError(
        f"{path} is damaged: its checksum is another one than in the manifest. Begin anew with --overwrite."
    )


def describe_space(backend: Backend, options: JobOptions) -> dict[str, Any]:
    """Return what the vectors of a job are, for the metadata of its output.

    Raises:
        InvalidTask: The model has no such task.
    """
    prompt = getattr(backend, "prompt", None)
    return {
        "model": backend.id,
        "dtype": backend.dtype,
        "fingerprint": backend.fingerprint,
        "task": options.task,
        "prompt": prompt(options.task) if prompt is not None and options.task is not None else None,
        "dimensions": options.dimensions or backend.dimensions,
        "output_dtype": options.output_dtype,
        "embergem": __version__,
    }
