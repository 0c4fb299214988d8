"""One run of `embergem embed`: a job that writes a file or stdout, and what is printed about it on standard error."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from embergem.cli.bulk_progress import duration, shown_progress

if TYPE_CHECKING:
    from embergem.bulk.job import Summary
    from embergem.bulk.job_options import JobOptions
    from embergem.bulk.progress_state import Progress
    from embergem.bulk.source import Source
    from embergem.sdk.backend import Backend


class EmbedRun:
    """One run of the command: a job, and what is printed about it.

    Args:
        options: The options of the job.
        source: Its rows.
        form: Name of the format of the output.
        report: File for the list of bad rows.
        quiet: Print no progress and no warnings.
        verbose: Print the model and a summary.
        as_json: Print the progress as JSON lines.
    """

    def __init__(
        self,
        options: "JobOptions",
        source: "Source",
        form: str,
        report: Path | None,
        *,
        quiet: bool,
        verbose: bool,
        as_json: bool,
    ) -> None:
        self._options = options
        self._source = source
        self._form = form
        self._report = report
        self._quiet = quiet
        self._verbose = verbose and not quiet
        self._as_json = as_json
        self._state: Progress | None = None

    def say(self, message: str) -> None:
        """Print a message for `--verbose`."""
        if self._verbose:
            typer.echo(message, err=True)

    def to_file(
        self,
        backend: "Backend",
        output: Path,
        *,
        overwrite: bool = False,
        append: bool = False,
        reuse: Path | None = None,
    ) -> None:
        """Run the job, which writes a file."""
        from embergem.bulk.job import Job

        source = self._source
        job = Job(
            source,
            output,
            backend,
            self._options,
            form=self._form,
            overwrite=overwrite,
            append=append,
            reuse=reuse,
            report=self._report,
        )
        try:
            with shown_progress(quiet=self._quiet, as_json=self._as_json) as show:
                summary = job.run(lambda state: self._note(state, show))
        except KeyboardInterrupt:
            done = self._state.counts.source_rows if self._state else 0
            typer.echo(
                f"Stopped with Ctrl-C after {done:,} rows. Run the same command again to continue."
                if source.resumable
                else f"Stopped with Ctrl-C: {output} was not written.",
                err=True,
            )
            raise
        self._finish(summary)

    def to_stdout(self, backend: "Backend") -> None:
        """Write JSON lines to stdout, each block of rows as soon as its vectors are there.

        A reader of stdout that stops early, such as head, ends the work without an error.
        """
        from embergem.bulk.blocks import Counts
        from embergem.bulk.job_identity import describe_space
        from embergem.bulk.progress_state import ProgressClock
        from embergem.bulk.rows import ProblemCounts
        from embergem.bulk.streaming import stream_parts
        from embergem.bulk.writers import JsonLinesFormat, write_report

        form = JsonLinesFormat(self._options, self._source.selection.keep, describe_space(backend, self._options))
        counts, problems, listed = Counts(), ProblemCounts(), []
        clock = ProgressClock(self._source, counts)
        try:
            with (
                reader_may_stop(),
                shown_progress(quiet=self._quiet, as_json=self._as_json) as show,
                closing(stream_parts(self._source, backend, self._options)) as parts,
            ):
                for part in parts:
                    sys.stdout.buffer.write(form.lines(part))
                    sys.stdout.flush()
                    counts.add(part.counts)
                    for problem in part.problems:
                        problems.add(problem)
                        if self._report is not None:
                            listed.append(problem)
                    self._note(clock.progress(part.bytes_read), show)
        except KeyboardInterrupt:
            typer.echo(f"Stopped with Ctrl-C: {counts.rows:,} rows were written.", err=True)
            raise
        if self._report is not None:
            write_report(self._report, listed)
        self._warn(problems.kinds, counts.source_rows)
        self.say(f"{counts.rows:,} rows in {clock.seconds:.1f} s, {counts.rows / max(clock.seconds, 1e-9):,.0f} rows/s")

    def _note(self, state: "Progress", show: Any) -> None:
        self._state = state
        show(state)

    def _finish(self, summary: "Summary") -> None:
        """Print warnings and the summary of a job that wrote a file."""
        counts = summary.counts
        if self._as_json:
            event = {
                "event": "done",
                "output": str(summary.output),
                "complete_before": summary.complete,
                **{name: getattr(counts, name) for name in counts.__struct_fields__},
                "seconds": round(summary.seconds, 3),
                "continued_rows": summary.continued,
                "report": None if summary.report is None else str(summary.report),
            }
            typer.echo(json.dumps(event), err=True)
            return
        if self._quiet:
            return
        if summary.complete:
            typer.echo(f"{summary.output} is complete already: {counts.rows:,} rows. Nothing was done.", err=True)
            return
        if summary.problems:
            self._warn(summary.problems, counts.source_rows)
        if summary.report is not None:
            typer.echo(f"{summary.report} lists these rows.", err=True)
        if self._verbose or counts.source_rows > SUMMARY_ROWS:
            typer.echo(describe(summary), err=True)

    def _warn(self, kinds: "Mapping[str, tuple[int, list[str]]]", rows: int) -> None:
        if self._quiet or self._as_json:
            return
        for kind, (count, places) in kinds.items():
            more = f", and {count - len(places):,} more" if count > len(places) else ""
            typer.echo(f"warning: {count:,} of {rows:,} rows {KINDS[kind]}: {', '.join(places)}{more}", err=True)


SUMMARY_ROWS = 1000
"""Rows of a job from which its summary is printed without `--verbose`."""

KINDS = {
    "null": "have no text",
    "no_value": "have no text",
    "not_utf8": "are not valid UTF-8",
    "not_text": "have no text",
    "not_json": "are no JSON",
    "truncated": "were cut to the token limit",
    "chunked": "were embedded in chunks",
}
"""What a warning says of the rows of each kind of problem."""


def describe(summary: "Summary") -> str:
    """Return the summary of a job as a sentence."""
    counts = summary.counts
    rows = counts.source_rows - summary.continued
    parts = [
        f"{counts.rows:,} rows in {summary.output}",
        f"{rows:,} read in {duration(summary.seconds)} ({rows / max(summary.seconds, 1e-9):,.0f} rows/s)",
        f"{counts.computed:,} vectors computed",
    ]
    named = {
        "duplicates": counts.duplicates,
        "reused": counts.reused,
        "null": counts.null,
        "skipped": counts.skipped,
        "cut": counts.truncated,
        "in chunks": counts.chunked,
    }
    parts += [f"{count:,} {name}" for name, count in named.items() if count]
    if summary.continued:
        parts.append(f"{summary.continued:,} rows were finished before")
    return ", ".join(parts)


@contextmanager
def reader_may_stop() -> Iterator[None]:
    """Context for writing to stdout: a reader that stops early, such as head, is no error."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
