"""What an engine has done so far, in numbers."""

import copy
import threading

import msgspec

from embergem.types import LANES, Lane


def _zero() -> dict[Lane, int]:
    return dict.fromkeys(LANES, 0)


def _zero_seconds() -> dict[Lane, float]:
    return dict.fromkeys(LANES, 0.0)


class Stats(msgspec.Struct, kw_only=True):
    """Counters since the engine was loaded, and gauges of this moment.

    Attributes:
        requests, rows, tokens: What was accepted: requests, their inputs, the tokens of these.
        truncated: Inputs that were cut.
        errors: Requests that failed, by error code.
        cache_hits, cache_misses: Rows that were and were not known before; both 0 without a cache.
        cache_bytes: Bytes that the cache has in use; it may be shared with other engines.
        batches, computed_tokens: Batches run, and the tokens in them.
        compute_seconds: What they took from beginning to end, by lane; for bulk with the pauses in between.
        max_batch_tokens: Most tokens of a batch: `computed_tokens / (batches * max_batch_tokens)` is how full they are.
        queue_tokens: Tokens that wait now, by lane.
        queue_rows, queue_seconds: Rows that left the queue for a batch, and how long they waited in all, by lane.
        tokens_per_second: How fast each lane moves on, over its last ten batches or so; 0 before the first.
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
    """The counters while they grow. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = Stats()

    def accepted(self, rows: int, tokens: int, truncated: int) -> None:
        """Count one request."""
        with self._lock:
            self._stats.requests += 1
            self._stats.rows += rows
            self._stats.tokens += tokens
            self._stats.truncated += truncated

    def failed(self, code: str) -> None:
        """Count a request that was refused or failed."""
        with self._lock:
            self._stats.errors[code] = self._stats.errors.get(code, 0) + 1

    def looked_up(self, hits: int, misses: int) -> None:
        """Count rows that were looked for in the cache."""
        with self._lock:
            self._stats.cache_hits += hits
            self._stats.cache_misses += misses

    def left_queue(self, lane: Lane, rows: int, seconds: float) -> None:
        """Count rows that waited `seconds` in all."""
        with self._lock:
            self._stats.queue_rows[lane] += rows
            self._stats.queue_seconds[lane] += seconds

    def computed(self, lane: Lane, tokens: int, seconds: float) -> None:
        """Count one batch."""
        with self._lock:
            self._stats.batches += 1
            self._stats.computed_tokens += tokens
            self._stats.compute_seconds[lane] += seconds
            rate, old = tokens / max(seconds, 1e-9), self._stats.tokens_per_second[lane]
            self._stats.tokens_per_second[lane] = rate if old == 0 else old + 0.1 * (rate - old)

    def rate(self, lane: Lane) -> float:
        """Tokens a second that a lane moves on; 0 before its first batch."""
        return self._stats.tokens_per_second[lane]

    def snapshot(self) -> Stats:
        """Return a copy of the counters; the gauges are for the caller to fill."""
        with self._lock:
            return copy.deepcopy(self._stats)
