"""embergem beside its rivals, all in one run on one machine: tokens a second, latency, cosine to the published library.

    python benchmarks/bench.py [gemma|minilm ...]        (`make bench`)

Rivals live in virtual environments of their own beside the test assets, made at the first run. Every engine is a
process of its own that gets the same token ids. The result goes to benchmarks/results and is printed as a table.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lengths import by_length
from rivals import LLAMA, MISTRALRS, PACKAGES, ROOT, assets, environment, rivals

from embergem import __version__
from embergem.checkpoint.resolve import resolve
from embergem.cli.bench import LATENCY_RUNS, QUERY_TOKENS, loads, measure
from embergem.engine import Engine, Request
from embergem.program.batch import cosines

DTYPES = ("float32", "bfloat16", "int16", "int8")
DRAWN = ("float32", "int16")
"""Of these, the ones that are measured against length."""
PROBE = (3, 17, 64, 128, 256)
"""Lengths of the rows whose vectors are compared."""
REFERENCES = ("sentence-transformers", "ONNX Runtime fp32", "embergem float32")
"""What cosines are to: the first that did not fail."""
LONGEST = 1024
"""Longest text that rivals are drawn with, so that the slowest takes minutes."""
SHORT, FULL = 32, 2048
"""Lengths between which the cost of a token is compared."""


def bench(name: str, checkpoint: Path) -> dict[str, Any]:
    """Run every engine on one model."""
    engines: dict[str, Any] = {}
    vectors: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as scratch:
        order = Path(scratch) / "order.json"
        for dtype in DTYPES:
            with Engine.load(resolve(checkpoint), dtype=dtype) as engine:
                work = loads(engine.vocab_size, engine.limit)
                random = np.random.default_rng(7)
                probe = [random.integers(5, engine.vocab_size, n).tolist() for n in PROBE]
                query = [work["queries"][0][i % len(work["queries"][0])] for i in range(QUERY_TOKENS)]
                rest = {"probe": probe, "query": query, "latency_runs": LATENCY_RUNS}
                sizes = {"vocab_size": engine.vocab_size, "limit": min(engine.limit, LONGEST)}
                order.write_text(json.dumps(work | rest | sizes))
                found = asdict(measure(engine, repeats=2))
                if dtype in DRAWN:
                    drawn = by_length(partial(_encode, engine), engine.vocab_size, min(engine.limit, FULL))
                    drawn["flops_per_token"] = {n: engine.flops([n]) / n for n in drawn["latency_ms"]}
                    found["lengths"] = drawn
                engines[f"embergem {dtype}"] = found
                vectors[f"embergem {dtype}"] = engine.embed(Request(ids=probe)).vectors
            print(f"{name}: embergem {dtype} is through", file=sys.stderr, flush=True)
        for rival, way in rivals(name, checkpoint).items():
            out = Path(scratch) / "vectors.npy"
            command = [str(way.python), str(ROOT / "benchmarks" / "peer.py"), way.kind, way.model, str(order), str(out)]
            command += ["--lengths"] if way.lengths else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{name}: {rival} FAILED, see above; it is left out", file=sys.stderr, flush=True)
                continue
            engines[rival] = json.loads(done.stdout.splitlines()[-1])
            vectors[rival] = np.load(out)
            print(f"{name}: {rival} is through", file=sys.stderr, flush=True)
    right = next(each for each in REFERENCES if each in vectors)
    if right != REFERENCES[0]:
        print(f"{name}: cosines are to {right}", file=sys.stderr, flush=True)
    for engine_name, own in vectors.items():
        engines[engine_name]["cosine_error"] = float(1 - np.min(cosines(vectors[right], own)))
    return engines


def _encode(engine: Engine, rows: list[list[int]]) -> np.ndarray:
    return engine.embed(Request(ids=rows)).vectors


def table(engines: dict[str, Any]) -> str:
    """Print one model's figures as Markdown."""
    peak = engines["embergem float32"]["peak_gflops"]
    lines = [
        "| engine | queries | documents | mixed | one query: p50, p99 | 1 - cosine |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in engines.items():
        speeds = [f"{load['tokens_per_second']:,.0f}" for load in result["loads"].values()]
        error = max(0.0, result["cosine_error"])
        query = f"{result['query_ms_p50']:.1f}, {result['query_ms_p99']:.1f} ms"
        lines.append(f"| {name} | {' | '.join(speeds)} | {query} | {error:.1e} |")
    shares = [f"{dtype} {engines[f'embergem {dtype}']['loads']['documents']['gflops'] / peak:.2f}" for dtype in DTYPES]
    lines += ["", f"Documents, share of the cores' float32 peak ({peak:.0f} GFLOP/s): {', '.join(shares)}"]
    return "\n".join([*lines, *(growth(dtype, engines[f"embergem {dtype}"]["lengths"]) for dtype in DRAWN)])


def growth(dtype: str, lengths: dict[str, dict[int, float]]) -> str:
    """Say how much more a token costs in a long text than in a short one, in time and in arithmetic."""
    rates, work = lengths["tokens_per_second"], lengths["flops_per_token"]
    longest = max(rates)
    return (
        f"{dtype}, a token in texts of {longest} tokens against {SHORT}: {rates[SHORT] / rates[longest]:.2f} times the "
        f"time, {work[longest] / work[SHORT]:.2f} times the arithmetic"
    )


def processor() -> str:
    """Name of the processor, as the system has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Bench the models named, or both."""
    models = {"gemma": assets() / "random-embeddinggemma-300m", "minilm": resolve().path}
    chosen = sys.argv[1:] or list(models)
    result: dict[str, Any] = {
        "machine": {"processor": processor(), "threads": len(os.sched_getaffinity(0))},
        "versions": {
            "embergem": __version__,
            "python": platform.python_version(),
            "peers": (*PACKAGES, *MISTRALRS, *LLAMA),
        },
        "date": time.strftime("%Y-%m-%d"),
        "command": "python benchmarks/bench.py " + " ".join(chosen),
        "models": {},
    }
    out = ROOT / "benchmarks" / "results" / f"{result['date']}-{'-'.join(chosen)}.json"
    out.parent.mkdir(exist_ok=True)
    for name in chosen:
        result["models"][name] = bench(name, models[name])
        print(f"\n{name}, tokens a second:\n\n{table(result['models'][name])}", flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    plots = environment("peers", PACKAGES)
    subprocess.run(
        [str(plots), str(ROOT / "benchmarks" / "plot.py"), str(out), str(ROOT / "docs" / "plots")], check=True
    )
    print(f"\nwrote {out.relative_to(ROOT)} and docs/plots")


if __name__ == "__main__":
    main()
