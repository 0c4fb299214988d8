"""`Job`: embeds a source into one output file, and continues where an earlier process stopped.

The path of a row: `Source` reads it, `BlockMaker` tokenizes it, `Computer` embeds it, `PartBuilder` collects it, and
`JobStore` writes it. `Assembly` writes the output from the finished parts. When it is complete, the job's directory is
deleted.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from embergem.bulk.assembly import Assembly
from embergem.bulk.blocks import BlockMaker, Counts
from embergem.bulk.encoder import make_encoder
from embergem.bulk.job_identity import (
    JobNotBegun,
    describe_space,
    require_same_job,
    require_space,
)
from embergem.bulk.job_options import JobOptions
from embergem.bulk.job_store import Committer, JobStore, job_directory, raise_for
from embergem.bulk.output_formats import choose_format, make_format
from embergem.bulk.parts import Part, PartBuilder
from embergem.bulk.pipeline import BLOCKS_AHEAD, Computer, read_ahead
from embergem.bulk.progress_state import Progress, ProgressClock
from embergem.bulk.rows import ProblemCounts
from embergem.bulk.source import FileState, Source
from embergem.bulk.text_readers import require_rows
from embergem.bulk.writers import Describe, FinishedPart, write_report
from embergem.errors import JobError, UnsupportedOption
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
        append: Put the rows after those of an existing output of the same space. A new output is written otherwise.
        reuse: Output of an earlier job, whose vectors are used for unchanged texts.
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
        append: bool = False,
        reuse: Path | None = None,
        report: Path | None = None,
    ) -> None:
        self.source = source
        self.output = output
        self.options = options
        self._encoder = make_encoder(backend, options)
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
            "reuse": None if reuse is None else msgspec.to_builtins(FileState.of(reuse)),
            "append": append,
        }
        self._reuse = reuse
        self._append = append
        if append and overwrite:
            raise UnsupportedOption("append and overwrite are both given. Use only one of the two.", param="append")
        if append and name == "table":
            raise UnsupportedOption(
                "Rows cannot be appended to a table to read, which has no metadata. Write .parquet, .arrow, .lance, "
                ".npy or .jsonl.",
                param="append",
            )
        if reuse is not None:
            from embergem.bulk.reuse import require_same_space

            require_same_space(reuse, self.space)
        if append and output.exists() and not job_directory(output).exists():
            self._require_appendable()

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
            assembly = self._assembly(store)
            try:
                try:
                    self._embed(store, assembly, on_progress)
                finally:
                    delete = delete or not store.records  # nothing is lost
                require_rows(store.counts.source_rows, self.source.name)
                self.source.require_unchanged()
                if assembly is not None:
                    assembly.finish()
            except BaseException:
                if assembly is not None:
                    assembly.stop()
                raise
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
        if not self.output.exists() or self._overwrite or not (self.source.resumable or self._append):
            return None
        if job_directory(self.output).exists():
            return None  # the job was stopped between writing the output and deleting its directory, or overwrites it
        description = self._format.description(self.output)
        if description is not None and self.digest in description.get("jobs", ()):
            counts = msgspec.convert(description["counts"], Counts)
            return Summary(self.output, counts, 0.0, counts.source_rows, True, None, {}, description)
        if self._append:
            return None
        raise _other_output(self.output)

    def _require_appendable(self) -> dict[str, Any]:
        """Return the metadata of the output to append to.

        Raises:
            JobError: embergem did not write it, it has other columns, or it was deleted.
            UnsupportedOption: Its vectors are of another space.
        """
        if not self.output.exists():
            raise JobError(
                f"{self.output} was deleted since the job began to append to it. Restore the output, or begin anew "
                "with --overwrite."
            )
        description = self._format.description(self.output)
        if description is None:
            raise JobError(
                f"{self.output} was not written by embergem, so nothing can be appended. Name another output."
            )
        require_space(self.output, description, self.space, "Only vectors of the same space can be appended.")
        self._format.require_appendable(self.output, description)
        return description

    def _open(self, store: JobStore) -> None:
        """Open the manifest of a job to continue, or begin a new one."""
        store.dtype, store.row_bytes = self._dtype, self._width * self._dtype.itemsize
        manifest = store.directory / "manifest.sqlite"
        if manifest.exists() and not self.source.resumable:
            store.clear()
        if manifest.exists():
            try:
                store.open_manifest()
                require_same_job(store, self._identity)
                return
            except JobNotBegun:
                store.discard()
            except JobError:
                if not self._overwrite:
                    raise
                store.discard()
        elif self.output.exists() and self.source.resumable and not (self._overwrite or self._append):
            raise _other_output(self.output)
        store.clear()
        store.open_manifest()
        present = self._append and self.output.exists()
        if present:
            self._require_appendable()
        if self._reuse is not None:
            from embergem.bulk.reuse import import_reused

            import_reused(store, self._reuse, self.space, self._width)
        store.manifest.set(**self._identity, present=present)

    def _embed(
        self, store: JobStore, assembly: Assembly | None, on_progress: Callable[[Progress], None] | None
    ) -> None:
        """Embed the rows that are in no finished part. Computed rows are kept when the job is stopped."""
        maker = BlockMaker(self._encoder, self.options)
        computer = Computer(self._encoder, self.options, store)
        builder = PartBuilder(self.options, list(self.source.selection.keep))
        counts = store.counts
        clock = ProgressClock(self.source, counts)

        def commit(part: Part) -> None:
            self.source.require_unchanged()
            store.commit(part, self._format.write_rows)
            if assembly is not None:
                assembly.wake()

        committer = Committer(commit)
        try:
            batches = self.source.batches(store.position)
            with (
                read_ahead(maker.blocks(batches), BLOCKS_AHEAD) as blocks,
                closing(computer.blocks(blocks)) as computed_blocks,
            ):
                for computed in computed_blocks:
                    committer.check()
                    if assembly is not None:
                        assembly.check()
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

    def _assembly(self, store: JobStore) -> Assembly | None:
        """Begin to write the output, after the rows that an output to append to has; None if it is written already."""
        before = self._require_appendable() if store.manifest.get("present") else None
        if before is not None and self.digest in before["jobs"]:  # stopped after the output was written
            return None

        def write(parts: Iterator[FinishedPart], describe: Describe) -> None:
            self._format.assemble(parts, self.output, describe, before=before)

        def describe() -> dict[str, Any]:
            description = self._description(store.counts)
            if before is None:
                return description
            total = msgspec.convert(before["counts"], Counts)
            total.add(store.counts)
            return description | {
                "rows": total.rows,
                "counts": msgspec.to_builtins(total),
                "jobs": [*before["jobs"], self.digest],
            }

        return Assembly(store, self._width, self.output, write, describe)

    def _description(self, counts: Counts) -> dict[str, Any]:
        """Return the metadata of an output with the rows of this job alone."""
        return {
            **self.space,
            "rows": counts.rows,
            "counts": msgspec.to_builtins(counts),
            "jobs": [self.digest],
        }

    def _finish(self, store: JobStore, continued: int, start: float) -> Summary:
        """Write the report, and return the summary."""
        report = None
        try:
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
        counts = store.counts
        seconds = time.monotonic() - start
        return Summary(
            self.output, counts, seconds, continued, False, report, problems.kinds, self._description(counts)
        )


def _other_output(output: Path) -> JobError:
    return JobError(f"{output} exists and was written by another job. --overwrite replaces it, or name another output.")
