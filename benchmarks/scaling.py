"""Estimate what a large corpus costs on many machines: `make scaling`, which measures this machine and then simulates.

python benchmarks/scaling.py measure RESULT.json      CPU time a document of the driver and of a static model
python benchmarks/scaling.py simulate RESULT.json     write the tables of docs/scaling.md

The rates of transformers come from `make bench` (benchmarks/results). A measurement here counts CPU time, because other
programs may share the cores.
"""

import argparse
import heapq
import json
import os
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scaling.md"
BENCH = ROOT / "benchmarks" / "results" / "2026-11-25-gemma-minilm.json"
BEGIN, END = "<!-- tables: begin (make scaling) -->", "<!-- tables: end -->"

DOCUMENTS = 1_000_000_000
TOKENS = 200
CORES = 16
"""Cores of a machine. The rates are those of the two cores that were measured, times eight."""

MACHINES = (1, 10, 1000)
UNIT = 4096
"""Documents that the simulation handles as one: about fifty blocks of a job."""

SLOW_SHARE, SLOW_SPEED = 0.05, 0.5
"""Share of machines that are stragglers, and their speed."""

SPREAD = 0.05
"""Standard deviation of the speed of the other machines."""

FAILURE_HOURS, REPAIR_HOURS = 1000.0, 0.25
"""Mean hours between two failures of a machine, and hours until it, or its replacement, has loaded the model again."""

DRIVER_SHARE = 0.8
"""Share of the driver's capacity that a job is planned to use."""

ROUNDS = 3
"""Rounds of a measurement; the fastest counts."""


@dataclass(frozen=True)
class Model:
    """Rates of a model.

    Attributes:
        name: Name in the tables.
        dimensions: Size of its vectors.
        rate: Documents that a machine embeds in a second.
        driver: Documents that the driver of a job handles in a second.
    """

    name: str
    dimensions: int
    rate: float
    driver: float


@dataclass(frozen=True)
class Outcome:
    """A simulated run: its hours, the failures, and the hours of computing that they cost."""

    hours: float
    failures: int
    lost: float


def measure(documents: int = 4000) -> dict[str, Any]:
    """Return CPU seconds a document of the driver of a job, and of a static model; and bytes a document."""
    import numpy as np

    from embergem.bulk import embed_table
    from embergem.embedder import Embedder
    from embergem.engine.engine import Engine
    from embergem.loader import load
    from embergem.options import LoadOptions
    from embergem.types import Request, Result, Row

    class Elsewhere:
        """A model whose vectors other machines compute: tokenizes here, and returns zeros at once."""

        blocks_ahead = 8

        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def submit_rows(self, request: Request, rows: Sequence[Row]) -> "Future[Result]":
            future: Future[Result] = Future()
            future.set_result(Result(np.zeros((len(rows), self.dimensions), dtype=np.float32), rows))
            return future

    texts = list(documents_of_length(documents, TOKENS))
    found: dict[str, Any] = {"documents": documents, "load": os.getloadavg()[0], "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as scratch, load(LoadOptions()) as engine:
        counts = [len(row.ids) for row in engine.prepare(Request(texts=texts[:200], truncate=True))]
        found["tokens"] = sum(counts) / len(counts)
        request = Request(texts=texts, truncate=True)
        found["tokenize_seconds"] = cpu_seconds(lambda: engine.prepare(request)) / documents
        source = Path(scratch) / "corpus.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        # Parquet has no type of 8 bits and stores int8 as 32 bits, so int8 vectors are written to an Arrow file.
        for name, suffix, options in (("float32", "parquet", {}), ("int8", "arrow", {"output_dtype": "int8"})):
            output = Path(scratch) / f"{name}.{suffix}"
            found[f"driver_seconds_{name}"] = (
                cpu_seconds(
                    lambda o=output, given=options: embed_table(
                        source, o, Elsewhere(engine), too_long="truncate", overwrite=True, **given
                    )
                )
                / documents
            )
            found[f"bytes_{name}"] = output.stat().st_size / documents
        found["source_bytes"] = source.stat().st_size / documents
        static = write_static(Path(scratch) / "static", engine)
        with Embedder(static) as embedder:
            embedder.embed(texts[:100], truncate=True, progress=False)
            embed = lambda: embedder.embed(texts, truncate=True, progress=False)  # noqa: E731
            found["static_seconds"] = cpu_seconds(embed) / documents
            found["static_dimensions"] = embedder.dimensions
    return found


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of the fastest of `ROUNDS` rounds."""
    seconds = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work()
        seconds.append(time.process_time() - before)
    return min(seconds)


def driver_rate(result: dict[str, Any]) -> float:
    """Return the documents a second of a driver: tokenizing uses all cores, the rest of its work one at a time."""
    total = result["driver_seconds_float32"]
    serial = max(total - result["tokenize_seconds"], 1e-9)
    return min(CORES / total, 1 / serial)


def documents_of_length(count: int, tokens: int) -> Iterator[str]:
    """Yield different texts of about `tokens` tokens, from words of the module's own source and a seed."""
    words = sorted(set(Path(__file__).read_text(encoding="utf-8").split()) - {""})
    words = [word for word in words if word.isalpha()]
    draw = random.Random(0)
    for _ in range(count):
        yield " ".join(draw.choices(words, k=round(tokens / 1.15)))


def write_static(directory: Path, engine: Any) -> Path:
    """Write a static model with random vectors of potion's size and the tokenizer of another model."""
    import numpy as np
    from safetensors.numpy import save_file

    from embergem.hub.resolve import resolve
    from embergem.options import LoadOptions

    directory.mkdir()
    table = np.random.default_rng(0).normal(size=(engine.vocab_size, 256)).astype(np.float32)
    save_file({"embeddings": table}, directory / "model.safetensors")
    (directory / "tokenizer.json").write_bytes((resolve(LoadOptions()).path / "tokenizer.json").read_bytes())
    (directory / "config.json").write_text(
        json.dumps({"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": True, "hidden_dim": 256})
    )
    return directory


def models(result: dict[str, Any]) -> list[Model]:
    """Return the rates of the models, from a measurement and from the result of `make bench`."""
    bench = json.loads(BENCH.read_text(encoding="utf-8"))["models"]
    scale = CORES / 2

    def rate(model: str) -> float:
        return float(bench[model]["embergem int16"]["loads"]["documents"]["tokens_per_second"]) / TOKENS * scale

    driver = driver_rate(result)
    return [
        Model("static, 256 dimensions, float32", 256, CORES / result["static_seconds"], driver),
        Model("all-MiniLM-L6-v2, int16", 384, rate("minilm"), driver),
        Model("EmbeddingGemma 300m, int16", 768, rate("gemma"), driver),
    ]


def simulate(model: Model, machines: int, documents: int, seed: int) -> Outcome:
    """Simulate one job: machines take units from the driver, which handles one unit at a time.

    A machine that fails loses the unit that it computes, and takes part again after the repair. The driver reads and
    tokenizes one unit after the other, two units a machine ahead, and keeps a lost unit.
    """
    draw = random.Random(seed)
    units = -(-documents // UNIT)
    speeds = [
        model.rate * (SLOW_SPEED if draw.random() < SLOW_SHARE else max(0.5, draw.gauss(1, SPREAD)))
        for _ in range(machines)
    ]
    if machines == 1:
        speeds = [model.rate]
    handling = UNIT / model.driver
    fails = [draw.expovariate(1 / (FAILURE_HOURS * 3600)) for _ in range(machines)]
    ready = [(0.0, machine) for machine in range(machines)]
    heapq.heapify(ready)
    prepared = end = lost = 0.0
    starts = deque([0.0] * (2 * machines), maxlen=2 * machines)
    waiting, failures = units, 0
    while waiting:
        now, machine = heapq.heappop(ready)
        start = max(now, prepared)
        finish = start + UNIT / speeds[machine]
        if fails[machine] < finish:  # `prepared` stays: the driver still has the unit
            failures += 1
            lost += max(0.0, fails[machine] - start)
            back = max(fails[machine], start) + REPAIR_HOURS * 3600
            fails[machine] = back + draw.expovariate(1 / (FAILURE_HOURS * 3600))
            heapq.heappush(ready, (back, machine))
            continue
        waiting -= 1
        prepared = max(prepared, starts[0]) + handling
        starts.append(start)
        end = max(end, finish)
        heapq.heappush(ready, (finish, machine))
    return Outcome(end / 3600, failures, lost / 3600)


def jobs_for(model: Model, machines: int) -> int:
    """Return the number of jobs into which a corpus is divided, so that no driver is the limit."""
    return max(1, min(machines, -(-round(machines * model.rate) // round(DRIVER_SHARE * model.driver))))


def run(model: Model, machines: int, jobs: int) -> Outcome:
    """Simulate a corpus that is divided among jobs, each with its own driver and machines."""
    shares = [machines // jobs + (job < machines % jobs) for job in range(jobs)]
    outcomes = [simulate(model, share, DOCUMENTS * share // machines, seed) for seed, share in enumerate(shares)]
    return Outcome(
        max(outcome.hours for outcome in outcomes),
        sum(outcome.failures for outcome in outcomes),
        sum(outcome.lost for outcome in outcomes),
    )


def tables(result: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the tables of docs/scaling.md."""

    def microseconds(name: str) -> str:
        return f"{1e6 * result[name]:,.0f} µs"

    yield from ("| measured | value |", "| --- | --- |")
    yield f"| tokens of a document | {result['tokens']:.0f} |"
    yield f"| CPU time of the driver for a document, float32 to Parquet | {microseconds('driver_seconds_float32')} |"
    yield f"| the same, int8 to Arrow | {microseconds('driver_seconds_int8')} |"
    yield f"| of this, tokenizing | {microseconds('tokenize_seconds')} |"
    yield f"| documents a second of a driver with {CORES} cores | {driver_rate(result):,.0f} |"
    yield f"| CPU time of a static model for a document, tokenizing included | {microseconds('static_seconds')} |"
    yield f"| bytes of a document in JSON lines | {result['source_bytes']:,.0f} |"
    yield f"| bytes of a row with 384 numbers, float32 in Parquet | {result['bytes_float32']:,.0f} |"
    yield f"| the same, int8 in Arrow | {result['bytes_int8']:,.0f} |"
    yield f"| load of the machine while this was measured | {result['load']:.1f} on {result['cores']} cores |"
    yield ""
    yield "| model | documents/s of a machine | core-hours | vectors, float32 | vectors, int8 |"
    yield "| --- | --- | --- | --- | --- |"
    found = models(result)
    for model in found:
        hours = DOCUMENTS / model.rate * CORES / 3600
        size = DOCUMENTS * model.dimensions / 1e12
        yield f"| {model.name} | {model.rate:,.0f} | {hours:,.0f} | {4 * size:.2f} TB | {size:.2f} TB |"
    yield ""
    yield "| model | machines | hours of one job | jobs | hours of these jobs | ideal hours | failures | lost hours |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for model in found:
        for machines in MACHINES:
            ideal = DOCUMENTS / (model.rate * machines) / 3600
            jobs = jobs_for(model, machines)
            single = run(model, machines, 1)
            divided = single if jobs == 1 else run(model, machines, jobs)
            times = f"{single.hours:,.2f} | {jobs:,} | {divided.hours:,.2f} | {ideal:,.2f}"
            yield f"| {model.name} | {machines:,} | {times} | {divided.failures} | {divided.lost:.3f} |"


def main() -> int:
    """Measure, or simulate and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["measure", "simulate"])
    parser.add_argument("result", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is stale")
    given = parser.parse_args()
    if given.what == "measure":
        given.result.write_text(json.dumps(measure(), indent=2) + "\n")
        return 0
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    new = before + "\n".join([BEGIN, *tables(json.loads(given.result.read_text())), END]) + after
    if given.check:
        return int(new != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
