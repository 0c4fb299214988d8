"""`embergem bench`: how fast this machine is with a model, and how near to what its cores can do."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from embergem.engine import Engine, Request
from embergem.loader import load
from embergem.options import LoadOptions

QUERY_TOKENS = 30
LATENCY_RUNS = 60
REPEATS = 3

Rows = list[list[int]]


@dataclass(frozen=True, slots=True)
class Load:
    """Throughput with one kind of input."""

    tokens: int
    tokens_per_second: float
    gflops: float


@dataclass(frozen=True, slots=True)
class Result:
    """Everything measured; milliseconds for a single query, GFLOP/s for the peak of the cores in float32."""

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
    """Return a row of `QUERY_TOKENS` ids, from the loads."""
    first = work["queries"][0]
    return [first[place % len(first)] for place in range(QUERY_TOKENS)]


def measure(engine: Engine) -> Result:
    """Embed the loads and one query again and again; the best of `REPEATS` counts, since noise only ever slows."""
    work = loads(engine.vocab_size, engine.limit)
    engine.embed(Request(ids=work["queries"][:8]))  # what the first call sets up is not speed
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
    return Result(
        model=engine.id,
        dtype=engine.dtype,
        instruction_set=engine.instruction_set,
        threads=engine.threads,
        peak_gflops=engine.peak(0.5) / 1e9,
        loads=measured,
        query_ms_p50=times[len(times) // 2],
        query_ms_p99=times[-1],
    )


def run(options: LoadOptions, *, as_json: bool) -> None:
    """Measure and print."""
    with load(options) as engine:
        result = measure(engine)
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
        return
    typer.echo(
        f"{result.model}, {result.dtype}, {result.instruction_set}, {result.threads} threads (which can do "
        f"{result.peak_gflops:.0f} GFLOP/s in float32)"
    )
    table = Table("load", "tokens", "tokens/s", "GFLOP/s", "of that peak")
    for name, row in result.loads.items():
        share = f"{row.gflops / result.peak_gflops:.0%}"
        table.add_row(name, f"{row.tokens:,}", f"{row.tokens_per_second:,.0f}", f"{row.gflops:.0f}", share)
    Console().print(table)
    typer.echo(
        f"one query of {QUERY_TOKENS} tokens: {result.query_ms_p50:.1f} ms, at worst {result.query_ms_p99:.1f} ms"
    )


def _timed(engine: Engine, rows: Rows) -> float:
    start = time.perf_counter()
    engine.embed(Request(ids=rows))
    return time.perf_counter() - start
