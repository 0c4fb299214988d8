"""Counters of one engine, and its rate in the log."""

import copy
import logging
import threading
import time
from collections.abc import Callable

import msgspec

from embergem._native import CancelToken
from embergem.engine.bisect import Batch
from embergem.engine.pending import PendingRequest
from embergem.packed_rows import PackedRows
from embergem.types import LANES, Ids, Lane, Vectors

Compute = Callable[[Ids, Ids, CancelToken, Lane], Vectors]
"""Runs a packed batch: `(ids, cu_seqlens, cancel, lane)` gives vectors `(rows, dimensions)`.

It raises `Cancelled` if the token was cancelled meanwhile.
"""

LOG_PERIOD = 5.0
"""Least seconds between two log lines: a small model computes hundreds of batches a second."""

log = logging.getLogger("embergem.engine.throughput")  # a documented name; users configure this logger


def _zero() -> dict[Lane, int]:
    return dict.fromkeys(LANES, 0)


def _zero_seconds() -> dict[Lane, float]:
    return dict.fromkeys(LANES, 0.0)


class Stats(msgspec.Struct, kw_only=True):
    """Counters since the engine was loaded, and gauges of this moment.

    Attributes:
        requests, rows, tokens: Accepted requests, their inputs, and the tokens of these inputs.
        truncated: Inputs that were cut.
        errors: Failed requests, by error code.
        cache_hits, cache_misses: Rows that were and were not in the cache; both 0 without a cache.
        cache_bytes: Bytes that the cache uses; other engines may share it.
        batches, computed_tokens: Completed batches, and the tokens in them.
        compute_seconds: Seconds from the start to the end of batches, by lane; for bulk with the pauses in between.
        max_batch_tokens: Most tokens of a batch; `computed_tokens / (batches * max_batch_tokens)` is how full they are.
        queue_tokens: Tokens in the queue now, by lane.
        queue_rows, queue_seconds: Rows that left the queue for a batch, and the sum of their queue times, by lane.
        tokens_per_second: Moving average of the rate of each lane over about ten batches; 0 before the first batch.
    """

    requests: int = 0
    rows: int = 0
    tokens: int = 0
    truncated: int = 0
    errors: dict[str, int] = {}
    cache_hits: int = 0
    cache_misses: int = 0
    cache_bytes: int = 0
    batches: int = 0
    computed_tokens: int = 0
    compute_seconds: dict[Lane, float] = msgspec.field(default_factory=_zero_seconds)
    max_batch_tokens: int = 0
    queue_tokens: dict[Lane, int] = msgspec.field(default_factory=_zero)
    queue_rows: dict[Lane, int] = msgspec.field(default_factory=_zero)
    queue_seconds: dict[Lane, float] = msgspec.field(default_factory=_zero_seconds)
    tokens_per_second: dict[Lane, float] = msgspec.field(default_factory=_zero_seconds)


class Counters:
    """Counts the events of one engine. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = Stats()

    def accepted(self, pending: PendingRequest, tokens: int, *, cached: bool) -> None:
        """Count an accepted request; `cached` says whether its rows were looked up in a cache."""
        rows = pending.rows
        with self._lock:
            stats = self._stats
            stats.requests += 1
            stats.rows += len(rows)
            stats.tokens += tokens
            stats.truncated += rows.truncated if isinstance(rows, PackedRows) else sum([row.truncated for row in rows])
            if cached:
                stats.cache_hits += len(pending.cached)
                stats.cache_misses += len(rows) - len(pending.cached)

    def failed(self, code: str) -> None:
        """Count one request that was refused or failed, by its error code."""
        with self._lock:
            self._stats.errors[code] = self._stats.errors.get(code, 0) + 1

    def computed(self, batch: Batch) -> None:
        """Count a batch and the queue times of its rows, and update the rate of its lane."""
        with self._lock:
            stats, lane = self._stats, batch.lane
            stats.queue_rows[lane] += batch.row_count
            if batch.caller is None:  # otherwise the rows were not queued
                stats.queue_seconds[lane] += sum(row.count * (batch.started_at - row.queued_at) for row in batch.rows)
            stats.batches += batch.runs
            stats.computed_tokens += batch.tokens
            stats.compute_seconds[lane] += batch.seconds
            if batch.runs:
                rate, average = batch.tokens / max(batch.seconds, 1e-9), stats.tokens_per_second[lane]
                stats.tokens_per_second[lane] = rate if average == 0 else average + 0.1 * (rate - average)

    def rate(self, lane: Lane) -> float:
        """Return the moving average of a lane's tokens per second; 0 before its first batch."""
        return self._stats.tokens_per_second[lane]

    def snapshot(self) -> Stats:
        """Return a copy of the counters. The caller fills in the gauges."""
        with self._lock:
            return copy.deepcopy(self._stats)


class ThroughputLog:
    """Logs texts and tokens a second at level INFO. Idle time does not count. Thread-safe; batches may overlap.

    The first batch is logged at once, so that a short run is logged too. `flush` logs what came after the last line.

    Args:
        name: Name of the model.
        clock: Returns seconds; only differences count.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0  # batches
        self._busy_since = 0.0  # start of the busy time that `_busy` does not include yet, while a batch runs
        self._busy = 0.0
        self._texts = self._tokens = 0
        self._last_line = float("-inf")

    def wrap(self, compute: Compute) -> Compute:
        """Return a function that calls `compute` and counts each batch that completes."""

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
        """Log what was computed since the last line, if anything was."""
        with self._lock:
            self._write_line(self._clock())

    def _begin(self) -> None:
        with self._lock:
            if self._running == 0:
                self._busy_since = self._clock()
            self._running += 1

    def _end(self, texts: int, tokens: int) -> None:
        with self._lock:
            now = self._clock()
            self._texts += texts
            self._tokens += tokens
            self._busy += now - self._busy_since
            self._busy_since = now
            self._running -= 1
            if now - self._last_line >= LOG_PERIOD:
                self._write_line(now)

    def _write_line(self, now: float) -> None:
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
        self._last_line = now
