"""Measure tokens a second and latency by text length, for any function of rows of ids. Imports nothing of embergem."""

import time
from collections.abc import Callable

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
BATCH = 2048
"""Tokens of a batch whose speed is measured."""
RUNS = 2

Rows = list[list[int]]


def by_length(encode: Callable[[Rows], object], vocab_size: int, limit: int) -> dict[str, dict[int, float]]:
    """Return milliseconds for one row of each length, and tokens a second for a batch of such rows; best of runs."""
    milliseconds, rates = {}, {}
    for length in (length for length in LENGTHS if length <= limit):
        batch = [
            [5 + (row * 7919 + place * 31) % (vocab_size - 5) for place in range(length)]
            for row in range(BATCH // length)
        ]
        milliseconds[length] = _best(encode, batch[:1]) * 1e3
        rates[length] = length * len(batch) / _best(encode, batch)
    return {"latency_ms": milliseconds, "tokens_per_second": rates}


def _best(encode: Callable[[Rows], object], rows: Rows) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        encode(rows)
        times.append(time.perf_counter() - start)
    return min(times)
