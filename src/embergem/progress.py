"""One progress bar for a download: on a terminal, and nowhere else."""

import sys
from types import TracebackType


class Bar:
    """A bar on standard error. `shown=None` shows it when standard error is a terminal.

    >>> with Bar(shown=False) as bar:
    ...     bar.start("model", total=100)
    ...     bar.advance(10)
    """

    def __init__(self, shown: bool | None = None) -> None:
        # Most starts fetch nothing, and rich takes 50 ms to import.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.shown = terminal if shown is None else shown
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self.shown,
            transient=True,
        )
        self._task = self._progress.add_task("", visible=False)

    def start(self, title: str, total: int | None) -> None:
        """Begin counting to `total` bytes under a new title."""
        self._progress.reset(self._task, description=title, total=total, visible=True)

    def advance(self, count: float) -> None:
        """Count more bytes."""
        self._progress.advance(self._task, count)

    def reach(self, count: float) -> None:
        """Set the count of bytes."""
        self._progress.update(self._task, completed=count)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
