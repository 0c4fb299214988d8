"""Measure a bulk job beside the engine alone, on the same texts and in turns: throughput, memory, and where time goes.

    python benchmarks/bulk.py [--rounds 3] [--models static,minilm] [--rows 400000] [--json FILE]

The models are all-MiniLM-L6-v2, the default model, and a static model of the shape of potion-base-8M (a table of 29,528
tokens and 256 numbers) with random numbers. `engine` is `Embedder.embed_stream` over texts in memory. `job` is
`embed_table` from a Parquet file to a Parquet file, from the call to the flushed output; `embed` is the job without
assembling the output at the end. No text occurs twice, so the job computes as many vectors as the engine.

Each measurement runs in a process of its own, and a figure is the best of the rounds, because other work on the machine
only makes a figure worse. Memory is the largest resident size of the job above that of the process before it, after the
engine has embedded 4,096 texts.
"""

import argparse
import json
import os
import platform
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
WORDS = ROOT / "docs" / "performance.md"
TOKENS, DIMENSIONS = 29_528, 256


def write_static(directory: Path) -> Path:
    """Write a static model of the shape of potion-base-8M, with random numbers and the tokenizer of MiniLM."""
    from embergem.hub.resolve import resolve
    from embergem.options import LoadOptions

    directory.mkdir()
    tokenizer = json.loads((resolve(LoadOptions()).path / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: place for token, place in vocabulary.items() if place < TOKENS}
    tokenizer["truncation"] = tokenizer["padding"] = None
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    numbers = np.random.default_rng(0).standard_normal((TOKENS, DIMENSIONS), dtype=np.float32)
    entry = {"dtype": "F32", "shape": [TOKENS, DIMENSIONS], "data_offsets": [0, numbers.nbytes]}
    header = json.dumps({"embeddings": entry}).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + numbers.tobytes())
    return directory


def texts(rows: int, words: int, seed: int = 1) -> list[str]:
    """Return different texts of about so many words, from the words of a page of this project."""
    known = sorted({word.strip(".,()`").lower() for word in WORDS.read_text().split() if word.isascii()})
    choice = random.Random(seed)
    return [f"{row} {' '.join(choice.choices(known, k=words))}" for row in range(rows)]


def measure(kind: str, model: str, corpus: str, output: str) -> dict[str, Any]:
    """Run one measurement in this process."""
    import pyarrow.parquet as pq

    from embergem import Embedder
    from embergem.bulk import embed_table
    from embergem.bulk.job import Job

    with Embedder(model) as embedder:
        embedder.embed([f"warm {number}" for number in range(4096)], progress=False)
        loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = os.times()
        start = time.perf_counter()
        marks: dict[str, float] = {}
        if kind == "engine":
            every = pq.read_table(corpus)["text"].to_pylist()
            start, before = time.perf_counter(), os.times()
            rows = sum(1 for _ in embedder.embed_stream(every, progress=False))
        else:
            embed = Job._embed

            def timed(self: Job, *given: Any) -> None:
                embed(self, *given)
                marks["embed"] = time.perf_counter() - start

            Job._embed = timed  # type: ignore[method-assign]
            rows = embed_table(corpus, output, embedder).counts.rows
        seconds = time.perf_counter() - start
        after = os.times()
    return {
        "rows": rows,
        "seconds": seconds,
        "embed_seconds": marks.get("embed", seconds),
        "cpu_seconds": after.user + after.system - before.user - before.system,
        "memory_above_engine_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - loaded) / 1024,
    }


def run(kind: str, model: str, corpus: Path, output: Path) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    output.unlink(missing_ok=True)
    given = json.dumps([kind, model, str(corpus), str(output)])
    done = subprocess.run([sys.executable, __file__, "--measure", given], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(name: str, model: str, rows: int, words: int, rounds: int, directory: Path) -> dict[str, Any]:
    """Measure engine and job in turns and print a line for each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    corpus = directory / f"{name}.parquet"
    pq.write_table(pa.table({"text": texts(rows, words)}), corpus)
    found: dict[str, list[dict[str, Any]]] = {"engine": [], "job": []}
    for _ in range(rounds):
        for kind, results in found.items():
            results.append(run(kind, model, corpus, directory / "out.parquet"))
    best = {kind: min(results, key=lambda result: float(result["seconds"])) for kind, results in found.items()}
    embed = min(result["embed_seconds"] for result in found["job"])
    rate = {kind: rows / result["seconds"] for kind, result in best.items()}
    figures = {
        "rows": rows,
        "words": words,
        "engine_rows_per_second": round(rate["engine"]),
        "job_rows_per_second": round(rate["job"]),
        "embed_rows_per_second": round(rows / embed),
        "share": round(rate["job"] / rate["engine"], 3),
        "engine_cpu_us_per_row": round(min(r["cpu_seconds"] for r in found["engine"]) / rows * 1e6, 2),
        "job_cpu_us_per_row": round(min(r["cpu_seconds"] for r in found["job"]) / rows * 1e6, 2),
        "memory_above_engine_mb": round(max(result["memory_above_engine_mb"] for result in found["job"])),
    }
    print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()), flush=True)
    return figures


def main() -> None:
    """Measure and print; the result is a JSON object with `--json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="static,minilm")
    parser.add_argument("--rows", type=int, default=400_000, help="rows for the static model")
    parser.add_argument("--minilm-rows", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(*json.loads(given.measure))))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    figures: dict[str, Any] = {"load": os.getloadavg()}
    with tempfile.TemporaryDirectory(prefix="bench-bulk-") as scratch:
        directory = Path(scratch)
        for name in given.models.split(","):
            if name == "static":
                model = str(write_static(directory / "potion-shaped"))
                figures[name] = compare(name, model, given.rows, 4, given.rounds, directory)
            else:
                figures[name] = compare(name, "minilm", given.minilm_rows, 60, given.rounds, directory)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
