"""`Progress`: the state of a running job, and `ProgressClock`, which measures it."""

import time

import msgspec

from embergem.bulk.blocks import Counts
from embergem.bulk.source import Source


class Progress(msgspec.Struct, frozen=True):
    """The state of a running job.

    Attributes:
        counts: What happened to the rows so far, those of earlier processes included.
        total: Rows of the source; None if the files do not say it.
        fraction: Part of the source that is done, from 0 to 1; None if neither rows nor bytes of the source are known.
        seconds: Time since this process began to embed.
        seconds_left: Time that the rest will take at the rate so far; None if it is not known.
        rows, tokens: Source rows and tokens that this process has embedded in that time.
    """

    counts: Counts
    total: int | None
    fraction: float | None
    seconds: float
    seconds_left: float | None
    rows: int
    tokens: int


class ProgressClock:
    """Measures the progress of a job from now on.

    Args:
        source: The rows.
        counts: Counts of the job, which the caller changes.
    """

    def __init__(self, source: Source, counts: Counts) -> None:
        self._counts = counts
        self._total = source.row_count
        self._size = source.size
        self._rows, self._tokens = counts.source_rows, counts.tokens
        self._first_fraction: float | None = None
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the clock was made."""
        return time.monotonic() - self._start

    def progress(self, bytes_read: int | None) -> Progress:
        """Return the state of the job; `bytes_read` are the bytes of the files up to the last row."""
        fraction = None
        if self._total is not None:
            fraction = self._counts.source_rows / max(self._total, 1)
        elif self._size and bytes_read is not None:
            fraction = min(1.0, bytes_read / self._size)
        seconds = self.seconds
        left = None
        if fraction is not None:
            if self._first_fraction is None:
                done = self._counts.source_rows - self._rows
                self._first_fraction = fraction * self._rows / max(self._rows + done, 1)
            gained = fraction - self._first_fraction
            left = seconds * (1.0 - fraction) / gained if gained > 0 else None
        return Progress(
            self._counts,
            self._total,
            fraction,
            seconds,
            left,
            self._counts.source_rows - self._rows,
            self._counts.tokens - self._tokens,
        )
