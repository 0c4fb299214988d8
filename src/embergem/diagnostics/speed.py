"""Measure the speed of a model on this machine beside what the machine allows: the peak of its cores, and its memory.

`embergem bench` prints it.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from embergem.diagnostics.bandwidth import read_bandwidth
from embergem.engine import Engine, Request

QUERY_TOKENS = 30
LATENCY_RUNS = 60
REPEATS = 3

PEAKS = {
    "avx2": {"int16": 2.0, "int8": 2.0},
    "avx512": {"int16": 2.0, "int8": 2.0},
    "avx-vnni": {"int16": 2.0, "int8": 4.0},
    "avx512-vnni": {"int16": 2.0, "int8": 4.0},
    "avx512-bf16": {"int16": 2.0, "int8": 4.0, "bfloat16": 2.0},
    "avx512-amx": {"int16": 8.0, "int8": 32.0, "bfloat16": 16.0},
    "neon-dotprod": {"int16": 1.0, "int8": 4.0},
    "neon-i8mm": {"int16": 1.0, "int8": 8.0},
}
"""Multiply-adds of the instructions for a dtype in the time of one float32 multiply-add; 1 where nothing is said.

`vpdpbusd` and `sdot` take four bytes and `smmla` eight; without them int8 is widened. `vdpbf16ps` takes two bfloat16
numbers (on Intel it takes longer, so it is not used there). In 16 cycles AMX multiplies 16,384 bytes, of which int16
needs four products, or 8,192 bfloat16 numbers, and two `vfmadd` a cycle multiply 512 numbers. The `smlal` of NEON takes
as many numbers as its `fmla`."""

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
class QueryFloor:
    """Least time of one query of `QUERY_TOKENS` tokens, by what the machine allows.

    Attributes:
        arithmetic_ms: Its operations at the peak of the dtype.
        peak_gflops: That peak, in 10⁹ operations a second: the one in float32, times what the instruction does more.
        bytes_ms: The weights that it reads at the read bandwidth. Weights that fit into the last-level cache can be
            read faster.
        bytes: The bytes of these weights: all packed ones, and the rows of the embedding tables.
        share: The larger of both times by the median time.
    """

    arithmetic_ms: float
    peak_gflops: float
    bytes_ms: float
    bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of a model on this machine.

    Attributes:
        model: Name of the model.
        dtype: Arithmetic of the large products.
        instruction_set: Kernels in use.
        threads: Threads that compute.
        peak_gflops: Peak of these threads in float32, in 10⁹ floating point operations a second.
        read_gigabytes_per_second: Bytes that these threads read from memory, in 10⁹ a second.
        loads: Throughput by the name of the load.
        query_ms_p50: Median time of a query of `QUERY_TOKENS` tokens, in milliseconds.
        query_ms_p99: Time of the slowest of `LATENCY_RUNS` queries, in milliseconds.
        query_floor: The least time that the machine allows for such a query.
    """

    model: str
    dtype: str
    instruction_set: str
    threads: int
    peak_gflops: float
    read_gigabytes_per_second: float
    loads: dict[str, Load]
    query_ms_p50: float
    query_ms_p99: float
    query_floor: QueryFloor


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
    median = times[len(times) // 2]
    peak, bandwidth = engine.peak(0.5), read_bandwidth(engine.threads)
    return Speed(
        engine.id,
        engine.dtype,
        engine.instruction_set,
        engine.threads,
        peak_gflops=peak / 1e9,
        read_gigabytes_per_second=bandwidth / 1e9,
        loads=measured,
        query_ms_p50=median,
        query_ms_p99=times[-1],
        query_floor=floor(engine, peak, bandwidth, median),
    )


def floor(engine: Engine, peak: float, bandwidth: float, median: float) -> QueryFloor:
    """Return the least time of a query, by the float32 peak and the read bandwidth, beside its median time in ms."""
    factor = PEAKS.get(engine.instruction_set, {}).get(engine.dtype, 1.0)
    read = engine.query_bytes(QUERY_TOKENS)
    arithmetic_ms = engine.flops([QUERY_TOKENS]) / (peak * factor) * 1e3
    bytes_ms = read / bandwidth * 1e3
    return QueryFloor(
        arithmetic_ms, peak * factor / 1e9, bytes_ms, bytes=read, share=max(arithmetic_ms, bytes_ms) / median
    )


def _timed(engine: Engine, rows: Rows) -> float:
    start = time.perf_counter()
    engine.embed(Request(ids=rows))
    return time.perf_counter() - start
