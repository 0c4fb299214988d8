"""Measure the speed of a model on this machine, and the share of the peak of its cores; `embergem bench` prints it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from embergem.engine import Engine, Request

QUERY_TOKENS = 30
LATENCY_RUNS = 60
REPEATS = 3

Rows = list[list[int]]


@dataclass(frozen=True, slots=True)
class Load:
    """Throughput with one kind of input.

    Attributes:
        tokens: Tokens of the load.
        tokens_per_second: Tokens computed in a second.
        gflops: Floating point operations in a second, in 10⁹.
    """

    tokens: int
    tokens_per_second: float
    gflops: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of a model on this machine.

    Attributes:
        model: Name of the model.
        dtype: Arithmetic of the large products.
        instruction_set: Kernels in use.
        threads: Threads that compute.
        peak_gflops: Peak of these threads in float32, in 10⁹ floating point operations a second.
        loads: Throughput by the name of the load.
        query_ms_p50: Median time of a query of `QUERY_TOKENS` tokens, in milliseconds.
        query_ms_p99: Time of the slowest of `LATENCY_RUNS` queries, in milliseconds.
    """

    model: str
    dtype: str
    instruction_set: str
    threads: int
    peak_gflops: float
    loads: dict[str, Load]
    query_ms_p50: float
    query_ms_p99: float


def loads(vocab_size: int, limit: int) -> dict[str, Rows]:
    """Return rows of random ids: 192 queries of about 32 tokens, 48 documents of about 257, and a mix of both."""
    random = np.random.default_rng(2026)

    def rows(lengths: Iterable[int]) -> Rows:
        return [random.integers(5, vocab_size, min(int(n), limit)).tolist() for n in lengths]

    queries = rows(random.integers(12, 52, 192).tolist())
    documents = rows(random.integers(64, 450, 48).tolist())
    mixed = [row for pair in zip(queries[:32], documents[:32], strict=True) for row in pair] + queries[32:96]
    return {"queries": queries, "documents": documents, "mixed": mixed}


def short_query(work: dict[str, Rows]) -> list[int]:
    """Return a row of `QUERY_TOKENS` ids, taken from the loads."""
    first = work["queries"][0]
    return [first[place % len(first)] for place in range(QUERY_TOKENS)]


def measure(engine: Engine) -> Speed:
    """Measure the loads and a single query on `engine`.

    Each load counts with its fastest of `REPEATS` runs, because other processes can only make a run slower.
    """
    work = loads(engine.vocab_size, engine.limit)
    engine.embed(Request(ids=work["queries"][:8]))  # the first call also sets up buffers
    measured = {}
    for name, rows in work.items():
        lengths = [len(row) for row in rows]
        seconds = min(_timed(engine, rows) for _ in range(REPEATS))
        measured[name] = Load(
            tokens=sum(lengths),
            tokens_per_second=sum(lengths) / seconds,
            gflops=engine.flops(lengths) / seconds / 1e9,
        )
    query = short_query(work)
    times = sorted(_timed(engine, [query]) * 1e3 for _ in range(LATENCY_RUNS))
    return Speed(
        engine.id,
        engine.dtype,
        engine.instruction_set,
        engine.threads,
        peak_gflops=engine.peak(0.5) / 1e9,
        loads=measured,
        query_ms_p50=times[len(times) // 2],
        query_ms_p99=times[-1],
    )


def _timed(engine: Engine, rows: Rows) -> float:
    start = time.perf_counter()
    engine.embed(Request(ids=rows))
    return time.perf_counter() - start
