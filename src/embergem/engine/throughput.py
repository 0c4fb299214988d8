"""How fast a model embeds, told to the log while there is work."""

import logging
import threading
import time
from collections.abc import Callable

from embergem._native import CancelToken
from embergem.types import Ids, Lane, Vectors

Compute = Callable[[Ids, Ids, CancelToken, Lane], Vectors]
"""(ids, cu_seqlens, cancel, lane) -> (rows, dimensions); raises `Cancelled` when the token was set."""

PERIOD = 5.0
"""Seconds between two lines, at least: a line a batch would be hundreds a second with a small model."""

log = logging.getLogger(__name__)


class Throughput:
    """Adds batches up and logs, at level INFO, texts and tokens a second of the time that something was computed.

    The first batch has a line at once, so that a short run has one, too; what comes after the last line is told by
    `flush`. Safe from several threads, whose batches may overlap.

    Args:
        name: Of the model.
        clock: Seconds; only differences count.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0  # when the time that is not in `_busy` yet began, while something runs
        self._busy = 0.0
        self._texts = self._tokens = 0
        self._last = float("-inf")

    def measured(self, compute: Compute) -> Compute:
        """Return `compute`, with each batch counted that it computes."""

        def counted(ids: Ids, cu_seqlens: Ids, cancel: CancelToken, lane: Lane) -> Vectors:
            self._begin()
            try:
                vectors = compute(ids, cu_seqlens, cancel, lane)
            except BaseException:
                self._end(0, 0)
                raise
            self._end(len(cu_seqlens) - 1, len(ids))
            return vectors

        return counted

    def flush(self) -> None:
        """Log what was computed since the last line."""
        with self._lock:
            self._tell(self._clock())

    def _begin(self) -> None:
        with self._lock:
            if self._running == 0:
                self._since = self._clock()
            self._running += 1

    def _end(self, texts: int, tokens: int) -> None:
        with self._lock:
            now = self._clock()
            self._texts += texts
            self._tokens += tokens
            self._busy += now - self._since
            self._since = now
            self._running -= 1
            if now - self._last >= PERIOD:
                self._tell(now)

    def _tell(self, now: float) -> None:
        if self._texts == 0:
            return
        seconds = max(self._busy, 1e-9)
        log.info(
            "%s: %d texts, %d tokens in %.2f s: %.1f texts/s, %.0f tokens/s",
            self._name,
            self._texts,
            self._tokens,
            seconds,
            self._texts / seconds,
            self._tokens / seconds,
        )
        self._texts = self._tokens = 0
        self._busy = 0.0
        self._last = now
