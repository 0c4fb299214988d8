"""A bar on the terminal for long work."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONG = 512
"""Inputs from which on a bar is shown unasked."""


@contextmanager
def bar(total: int | None, progress: bool | None) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr; gives the function that is told how many inputs are done.

    Args:
        total: Number of inputs; None if it is not known.
        progress: Whether to show it; None shows it on a terminal when there are many inputs.
    """
    if progress is None:
        progress = sys.stderr.isatty() and (total is None or total >= LONG)
    if not progress:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=sys.stderr.isatty()) as shown:
        task = shown.add_task("embedding", total=total)
        yield lambda count: shown.update(task, advance=count)
