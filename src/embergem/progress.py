"""Progress bars on standard error, for downloads and for embedding many texts. rich is imported only to show one."""

import sys
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


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
