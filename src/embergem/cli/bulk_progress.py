"""The progress of `embergem embed`: a bar on a terminal, lines in a log, or JSON lines for programs."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from embergem.bulk.progress_state import Progress

    OnProgress = Callable[[Progress], None]

PROGRESS_SECONDS = 10.0
"""Time between two progress lines in a log."""

JSON_SECONDS = 1.0
"""Time between two JSON lines."""

BAR_SECONDS = 0.2
"""Time between two changes of the bar."""


@contextmanager
def shown_progress(*, quiet: bool, as_json: bool) -> "Iterator[OnProgress]":
    """Yield the function that shows the state of a job on standard error, as often as is useful."""
    if as_json:
        yield _every(JSON_SECONDS, lambda state: typer.echo(json.dumps(as_dictionary(state)), err=True))
    elif quiet:
        yield lambda state: None
    elif not sys.stderr.isatty():
        yield _every(PROGRESS_SECONDS, lambda state: typer.echo(line(state), err=True), soon=False)
    else:
        with _bar() as show:
            yield _every(BAR_SECONDS, show)


def _every(seconds: float, show: "OnProgress", *, soon: bool = True) -> "OnProgress":
    """Return a function that calls `show` at most every so many seconds; `soon` shows the first state at once."""
    last = float("-inf") if soon else time.monotonic()

    def call(state: "Progress") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            show(state)

    return call


def line(state: "Progress") -> str:
    """Return the state of a job as one line."""
    return f"{_rows(state)}, {_rates(state)}"


def _rows(state: "Progress") -> str:
    done = f"{state.counts.source_rows:,}"
    return f"{done} rows" if state.total is None else f"{done} of {state.total:,} rows"


def _rates(state: "Progress") -> str:
    counts = state.counts
    seconds = max(state.seconds, 1e-9)
    parts = [f"{state.rows / seconds:,.0f} rows/s", f"{state.tokens / seconds:,.0f} tokens/s"]
    if (left := state.seconds_left) is not None:
        parts.append(f"{duration(left)} left")
    for name, count in (
        ("duplicates", counts.duplicates),
        ("reused", counts.reused),
        ("bad rows", counts.null + counts.skipped),
        ("cut", counts.truncated),
        ("in chunks", counts.chunked),
    ):
        if count:
            parts.append(f"{count:,} {name}")
    return ", ".join(parts)


def as_dictionary(state: "Progress") -> dict[str, Any]:
    """Return the state of a job for a JSON line."""
    seconds = max(state.seconds, 1e-9)
    counts = state.counts
    return {
        "event": "progress",
        **{name: getattr(counts, name) for name in counts.__struct_fields__},
        "total_rows": state.total,
        "seconds": round(state.seconds, 3),
        "rows_per_second": round(state.rows / seconds, 1),
        "tokens_per_second": round(state.tokens / seconds, 1),
        "seconds_left": None if state.seconds_left is None else round(state.seconds_left, 1),
    }


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds.

    >>> duration(59.6), duration(3725)
    ('1:00', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def _bar() -> "Iterator[OnProgress]":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rates]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("embedding", total=None, rates="")

        def show(state: "Progress") -> None:
            bar.update(
                task,
                description=_rows(state),
                total=None if state.fraction is None else 1.0,
                completed=state.fraction or 0.0,
                rates=_rates(state),
            )

        yield show
