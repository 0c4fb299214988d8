"""embergem beside its rivals, all in one run on one machine: tokens a second, latency, cosine to the published library.

    python benchmarks/bench.py [--rounds 3] [gemma|minilm ...]        (`make bench`)

Rivals live in virtual environments of their own beside the test assets, made at the first run. Every engine is a
process of its own that gets the same token ids; they take turns, and of the rounds the best counts. The result goes to
benchmarks/results and is printed as a table.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
from lengths import LENGTHS, Rows
from rivals import LLAMA, MISTRALRS, PACKAGES, ROOT, Rival, assets, environment, rivals
from rounds import side_by_side

from embergem import __version__
from embergem.diagnostics.speed import LATENCY_RUNS, loads, short_query
from embergem.engine import Engine
from embergem.engine.calibration import cosines
from embergem.hub.resolve import resolve
from embergem.loader import load
from embergem.options import LoadOptions

DTYPES = ("float32", "bfloat16", "int16", "int8")
DRAWN = ("float32", "int16")
"""Of these, the ones that are measured against length."""
PROBE = (3, 17, 64, 128, 256)
"""Lengths of the rows whose vectors are compared."""
REFERENCES = ("sentence-transformers", "ONNX Runtime fp32", "embergem float32")
"""What cosines are to: the first that did not fail."""
SHORT, FULL = 32, 2048
"""Lengths between which the cost of a token is compared."""
ROUNDS = 3


def bench(name: str, checkpoint: Path, rounds: int) -> dict[str, Any]:
    """Run every engine on one model."""
    with load(LoadOptions(model=checkpoint)) as engine:
        work = loads(engine.vocab_size, engine.limit)
        order = work | rest(engine, work)
        flops = {kind: engine.flops([len(row) for row in rows]) for kind, rows in work.items()}
        by_length = {n: engine.flops([n]) / n for n in LENGTHS if n <= engine.limit}
    own = {f"embergem {dtype}": ours(dtype, checkpoint) for dtype in DTYPES}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "order.json"
        path.write_text(json.dumps(order))
        found = side_by_side(own | rivals(name, checkpoint), path, rounds)
    right = next(each for each in REFERENCES if each in found)
    if right != REFERENCES[0]:
        print(f"{name}: cosines are to {right}", file=sys.stderr, flush=True)
    engines = {}
    for engine_name, measured in found.items():
        result = engines[engine_name] = measured.result
        result["cosine_error"] = float(1 - np.min(cosines(found[right].vectors, measured.vectors)))
        if engine_name in own:
            for kind, of_kind in result["loads"].items():
                of_kind["gflops"] = of_kind["tokens_per_second"] * flops[kind] / sum(map(len, work[kind])) / 1e9
            if drawn := result.get("lengths"):
                drawn["flops_per_token"] = {n: by_length[int(n)] for n in drawn["latency_ms"]}
    return engines


def ours(dtype: str, checkpoint: Path) -> Rival:
    """Return how embergem is run, with the interpreter that runs this."""
    longest = FULL if dtype in DRAWN else 0
    return Rival(Path(sys.executable), f"embergem-{dtype}", str(checkpoint), longest=longest)


def rest(engine: Engine, work: dict[str, Rows]) -> dict[str, Any]:
    """Return what a process needs besides the loads."""
    random = np.random.default_rng(7)
    return {
        "probe": [random.integers(5, engine.vocab_size, n).tolist() for n in PROBE],
        "query": short_query(work),
        "latency_runs": LATENCY_RUNS,
        "vocab_size": engine.vocab_size,
        "limit": engine.limit,
    }


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


def growth(dtype: str, lengths: dict[str, dict[str, float]]) -> str:
    """Say how much more a token costs in a long text than in a short one, in time and in arithmetic."""
    rates, work = lengths["tokens_per_second"], lengths["flops_per_token"]
    short, longest = str(SHORT), max(rates, key=int)
    return (
        f"{dtype}, a token in texts of {longest} tokens against {short}: {rates[short] / rates[longest]:.2f} times the "
        f"time, {work[longest] / work[short]:.2f} times the arithmetic"
    )


def processor() -> str:
    """Name of the processor, as the system has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Bench the models named, or both."""
    models = {"gemma": assets() / "random-embeddinggemma-300m", "minilm": resolve(LoadOptions()).path}
    parser = ArgumentParser(description=main.__doc__)
    # Python 3.11 holds the empty list that stands for no name against the choices, too.
    parser.add_argument("models", nargs="*", choices=[*models, []], help="gemma, minilm; both if none is named")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of every engine, of which the best counts")
    given = parser.parse_args()
    chosen = given.models or list(models)
    result: dict[str, Any] = {
        "machine": {"processor": processor(), "threads": len(os.sched_getaffinity(0))},
        "versions": {
            "embergem": __version__,
            "python": platform.python_version(),
            "peers": (*PACKAGES, *MISTRALRS, *LLAMA),
        },
        "date": time.strftime("%Y-%m-%d"),
        "command": f"python benchmarks/bench.py --rounds {given.rounds} " + " ".join(chosen),
        "models": {},
    }
    out = ROOT / "benchmarks" / "results" / f"{result['date']}-{'-'.join(chosen)}.json"
    out.parent.mkdir(exist_ok=True)
    for name in chosen:
        result["models"][name] = bench(name, models[name], given.rounds)
        print(f"\n{name}, tokens a second:\n\n{table(result['models'][name])}", flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    plots = environment("peers", PACKAGES)
    subprocess.run(
        [str(plots), str(ROOT / "benchmarks" / "plot.py"), str(out), str(ROOT / "docs" / "plots")], check=True
    )
    print(f"\nwrote {out.relative_to(ROOT)} and docs/plots")


if __name__ == "__main__":
    main()
