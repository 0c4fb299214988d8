"""Measure the latency of queries beside bulk requests, the speed of bulk beside queries, and the cost of a cache hit.

    python benchmarks/lanes.py [--urgent] [gemma|minilm ...]        (`make bench-lanes`)

Each model gets three measurements, in one process and through `Engine`, as the server uses it:

- queries one after the other on an idle engine;
- the same queries while requests of 2,000 texts run, one after the other;
- four threads that send queries without a pause, beside a large request. The speed of that request is compared with its
speed alone.

The result is printed and written to benchmarks/results.

Nothing else should run on the machine. If that is not possible, `--urgent` (as root, on Linux) gives the threads
real-time priority over other processes, and the threads of queries priority over the others.
"""

import json
import os
import platform
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from random_gemma import assets  # noqa: E402

from embergem import __version__  # noqa: E402
from embergem.checkpoint.checkpoint import Location  # noqa: E402
from embergem.engine import Engine, Request  # noqa: E402
from embergem.engine.vector_cache import VectorCache  # noqa: E402
from embergem.hub.resolve import resolve  # noqa: E402
from embergem.loader import load  # noqa: E402
from embergem.options import LoadOptions  # noqa: E402

WORDS = ("carbon", "lattice", "ocean", "violin", "harvest", "copper", "meadow", "signal", "thunder", "archive")
TEXTS = 2_000
QUERIES = 200
FLOOD_SECONDS = 8.0
FLOOD_THREADS = 4


def text(random: np.random.Generator, words: int) -> str:
    """Return a text of `words` random words."""
    return " ".join(random.choice(WORDS, words))


def ask(engine: Engine, query: str) -> float:
    """Embed one query and return the time it took, in milliseconds."""
    start = time.perf_counter()
    engine.embed(Request(texts=[query]))
    return (time.perf_counter() - start) * 1e3


def urgent() -> None:
    """Give the threads of this process priority over those of other processes."""
    first = {
        thread.native_id
        for thread in threading.enumerate()
        if thread is threading.main_thread() or thread.name.endswith("interactive")
    }
    for thread in map(int, os.listdir("/proc/self/task")):
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(10 if thread in first else 5))


def calm() -> None:
    """Undo `urgent`."""
    for thread in map(int, os.listdir("/proc/self/task")):
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def latency(times: list[float]) -> dict[str, float]:
    """Return percentiles of times, in milliseconds."""
    p50, p95, p99 = (round(float(value), 2) for value in np.percentile(times, [50, 95, 99]))
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "queries": len(times)}


def beside(engine: Engine, queries: list[str], texts: list[str]) -> list[float]:
    """Return the latency of each query while large requests run one after the other, in milliseconds."""
    running = engine.submit(Request(texts=texts))
    times = []
    for query in queries:
        if running.done():
            running = engine.submit(Request(texts=texts))
        times.append(ask(engine, query))
    running.cancel()
    return times


def flood(engine: Engine, queries: list[str], texts: list[str]) -> dict[str, Any]:
    """Return the tokens a second of bulk beside queries without a pause, and the latency of these queries."""
    request = Request(texts=texts * 4)
    running = engine.submit(request)
    time.sleep(1.0)
    before, start = engine.stats().queue_tokens["bulk"], time.perf_counter()
    time.sleep(FLOOD_SECONDS / 2)
    alone = (before - engine.stats().queue_tokens["bulk"]) / (time.perf_counter() - start)
    running.cancel()

    running = engine.submit(request)
    times: list[float] = []
    end = time.perf_counter() + FLOOD_SECONDS

    def client(number: int) -> None:
        while time.perf_counter() < end:
            times.append(ask(engine, queries[number % len(queries)]))

    before, start = engine.stats().queue_tokens["bulk"], time.perf_counter()
    clients = [threading.Thread(target=client, args=(number,)) for number in range(FLOOD_THREADS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    kept = (before - engine.stats().queue_tokens["bulk"]) / (time.perf_counter() - start)
    running.cancel()
    return {
        "bulk_tokens_per_second_alone": round(alone),
        "bulk_tokens_per_second_beside": round(kept),
        "bulk_share": round(kept / alone, 3),
        **latency(times),
    }


def cached(engine: Engine, query: str) -> float:
    """Return how often a second a cached query is answered; it is tokenized each time."""
    engine.embed(Request(texts=[query]))
    count, start = 20_000, time.perf_counter()
    for _ in range(count):
        engine.submit(Request(texts=[query])).result()
    return count / (time.perf_counter() - start)


def measure(location: Location, dtype: str, first: bool) -> dict[str, Any]:
    """Measure one model in one dtype."""
    random = np.random.default_rng(2026)
    texts = [text(random, int(words)) for words in random.integers(8, 40, TEXTS)]
    queries = [text(random, 12) for _ in range(QUERIES)]
    with load(LoadOptions(dtype=dtype), location=location) as engine:
        if first:
            urgent()
        for query in queries[:20]:
            ask(engine, query)
        idle = latency([ask(engine, query) for query in queries])
        busy = latency(beside(engine, queries, texts))
        result = {
            "model": engine.id,
            "dtype": engine.dtype,
            "instruction_set": engine.instruction_set,
            "threads": engine.threads,
            "max_batch_tokens": engine.stats().max_batch_tokens,
            "idle": idle,
            "beside_2000_texts": busy,
            "p95_ratio": round(busy["p95_ms"] / idle["p95_ms"], 2),
            "p95_to_idle_p50": round(busy["p95_ms"] / idle["p50_ms"], 2),
            "flood": flood(engine, queries, texts),
        }
        if first:
            calm()
    with load(LoadOptions(dtype=dtype), location=location, cache=VectorCache(2**26)) as engine:
        if first:
            urgent()
        result["cached_queries_per_second"] = round(cached(engine, queries[0]))
    return result


def main() -> None:
    """Measure the models named on the command line."""
    locations = {
        "minilm": lambda: resolve(LoadOptions()),
        "gemma": lambda: Location("random-embeddinggemma-300m", assets() / "random-embeddinggemma-300m"),
    }
    first = "--urgent" in sys.argv
    names = [name for name in sys.argv[1:] if name != "--urgent"] or list(locations)
    results = [measure(locations[name](), "float32", first) for name in names]
    report = {
        "embergem": __version__,
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "urgent": first,
        "results": results,
    }
    print(json.dumps(report, indent=2))
    path = ROOT / "benchmarks" / "results" / f"{date.today().isoformat()}-lanes.json"
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
