"""Progress on standard error: bars for downloads and many texts, and lines for the stages of a load.

rich is imported only to show a bar.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

Advance = Callable[[int], None]
"""Adds a number of finished inputs to a bar."""

MANY_INPUTS = 512
"""Number of inputs from which a bar is shown on a terminal by default."""

PATIENCE = 1.0
"""Seconds after which a stage of a load is announced."""

log = logging.getLogger(__name__)
_quiet = threading.Event()
_stage_bar = threading.Lock()
"""Held while the bar of a stage is shown: two loads at a time would write over each other."""


@contextmanager
def silent(active: bool = True) -> Iterator[None]:
    """Show no bars and no stages in this process until the block ends, unless they are asked for."""
    if active:
        _quiet.set()
    try:
        yield
    finally:
        if active:
            _quiet.clear()


class DownloadProgress:
    """A bar that counts bytes, one file or model at a time.

    Args:
        shown: Whether to show the bar; None shows it when standard error is a terminal.

    >>> with DownloadProgress(shown=False) as progress:
    ...     progress.start("model", total=100)
    ...     progress.advance(10)
    """

    def __init__(self, shown: bool | None = None) -> None:
        self.shown = _is_terminal() if shown is None else shown
        self._progress = _bytes_progress() if self.shown else None
        self._task = self._progress.add_task("", visible=False) if self._progress else None

    def start(self, title: str, total: int | None) -> None:
        """Begin to count to `total` bytes under a new title; None is an unknown number of bytes."""
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, description=title, total=total, visible=True)

    def advance(self, count: float) -> None:
        """Add `count` bytes."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    def reach(self, count: float) -> None:
        """Set the number of bytes to `count`."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=count)

    def __enter__(self) -> "DownloadProgress":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


class LoadProgress:
    """Says what the load of a model is doing, if a stage takes longer than a second.

    The lines go to the log if it takes level INFO, and otherwise to standard error if that is a terminal. A terminal
    also has a bar while a stage runs.

    Args:
        name: Name of the model, at the start of each line.

    >>> progress = LoadProgress("model")
    >>> with progress.stage("reading the weights"):
    ...     pass
    >>> progress.finish()
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = time.monotonic()
        self._long: list[str] = []

    @contextmanager
    def stage(self, title: str, read: Callable[[], tuple[int, int]] | None = None) -> Iterator[None]:
        """Announce the body as the stage `title`; `read` returns how much of it is done, and of what total."""
        start = time.monotonic()
        finished = threading.Event()
        watch = threading.Thread(target=self._watch, args=(title, read, finished), name="embergem stage", daemon=True)
        watch.start()
        try:
            yield
        finally:
            finished.set()
            watch.join()
        seconds = time.monotonic() - start
        if seconds > PATIENCE:
            self._long.append(f"{title} {seconds:.0f} s")

    def finish(self) -> None:
        """Say how long the load took, if a stage was announced."""
        if self._long:
            self._say(f"loaded in {time.monotonic() - self._start:.0f} s ({', '.join(self._long)})")

    def _watch(self, title: str, read: Callable[[], tuple[int, int]] | None, finished: threading.Event) -> None:
        """Announce a stage that has not finished in time, and show its bar until it has."""
        if finished.wait(PATIENCE):
            return
        self._say(f"{title} …")
        if not _is_terminal() or not _stage_bar.acquire(blocking=False):
            return
        try:
            with _stage_progress() as bar:
                task = bar.add_task(f"{self._name}: {title}", total=None)
                while not finished.wait(0.1):
                    done, total = read() if read else (0, 0)
                    bar.update(task, completed=done, total=total or None)
        finally:
            _stage_bar.release()

    def _say(self, message: str) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info("%s: %s", self._name, message)
        elif _is_terminal():
            print(f"{self._name}: {message}", file=sys.stderr)  # noqa: T201 - a person waits


@contextmanager
def embedding_progress(total: int | None, shown: bool | None) -> Iterator[Advance]:
    """Show a bar that counts inputs, and yield the function that adds finished inputs to it.

    Args:
        total: Number of inputs; None if it is unknown.
        shown: Whether to show the bar; None shows it when standard error is a terminal and there are `MANY_INPUTS` or
            an unknown number of inputs.
    """
    if shown is None:
        shown = (total is None or total >= MANY_INPUTS) and _is_terminal()
    if not shown:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=_is_terminal()) as progress:
        task = progress.add_task("embedding", total=total)
        yield lambda count: progress.update(task, advance=count)


def _bytes_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _stage_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _is_terminal() -> bool:
    """Return whether a person reads standard error and has not asked for quiet."""
    return sys.stderr is not None and sys.stderr.isatty() and not _quiet.is_set()
