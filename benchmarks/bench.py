"""Compare embergem with other engines on this machine: tokens a second, latency, and cosine to the published library.

    python benchmarks/bench.py [--rounds 3] [--quick] [gemma|minilm ...]        (`make bench`)

The virtual environments of the other engines are created at the first run, in the directory of the test assets. Each
engine runs in its own process and gets the same token ids. The engines take turns, and the best round of each engine
counts. The result is written to benchmarks/results and printed as a table. `--quick` leaves out the engines that take
most of the hour (sentence-transformers, mistral.rs, llama.cpp), the speed at each text length, and the plots.
"""

import json
import os
import platform
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
from lengths import LENGTHS, Rows
from plot import main as draw
from rivals import LLAMA, MISTRALRS, PACKAGES, ROOT, Rival, assets, rivals
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
"""Dtypes whose speed is measured at each text length, for the plots."""
PROBE = (3, 17, 64, 128, 256) * 5
"""Lengths of the rows whose vectors are compared, in tokens."""
REFERENCES = ("sentence-transformers", "ONNX Runtime fp32", "embergem float32")
"""Engines whose vectors the cosines refer to; the first one that did not fail is used."""
SHORT, FULL = 32, 2048
"""Text lengths, in tokens, between which the cost of one token is compared."""
ROUNDS = 3


def bench(name: str, checkpoint: Path, rounds: int, quick: bool) -> dict[str, Any]:
    """Run every engine on one model."""
    with load(LoadOptions(model=checkpoint)) as engine:
        work = loads(engine.vocab_size, engine.limit)
        order = work | rest(engine, work)
        flops = {kind: engine.flops([len(row) for row in rows]) for kind, rows in work.items()}
        by_length = {n: engine.flops([n]) / n for n in LENGTHS if n <= engine.limit}
    own = {f"embergem {dtype}": ours(dtype, checkpoint, quick) for dtype in DTYPES}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "order.json"
        path.write_text(json.dumps(order))
        found = side_by_side(own | rivals(name, checkpoint, work["documents"], quick), path, rounds)
    right = next(each for each in REFERENCES if each in found)
    if right != REFERENCES[0]:
        print(f"{name}: the reference of the cosines is {right}", file=sys.stderr, flush=True)
    engines = {}
    for engine_name, measured in found.items():
        result = engines[engine_name] = measured.result
        result["least_cosine"] = float(np.min(cosines(found[right].vectors, measured.vectors)))
        result["cosine_error"] = 1 - result["least_cosine"]
        if engine_name in own:
            for kind, of_kind in result["loads"].items():
                of_kind["gflops"] = of_kind["tokens_per_second"] * flops[kind] / sum(map(len, work[kind])) / 1e9
            if drawn := result.get("lengths"):
                drawn["flops_per_token"] = {n: by_length[int(n)] for n in drawn["latency_ms"]}
    return engines


def ours(dtype: str, checkpoint: Path, quick: bool) -> Rival:
    """Return embergem in this interpreter as an engine to measure."""
    longest = FULL if dtype in DRAWN and not quick else 0
    return Rival(Path(sys.executable), f"embergem-{dtype}", str(checkpoint), longest=longest)


def rest(engine: Engine, work: dict[str, Rows]) -> dict[str, Any]:
    """Return what an engine's process needs besides the loads."""
    random = np.random.default_rng(7)
    return {
        "probe": [random.integers(5, engine.vocab_size, n).tolist() for n in PROBE],
        "query": short_query(work),
        "latency_runs": LATENCY_RUNS,
        "vocab_size": engine.vocab_size,
        "limit": engine.limit,
    }


def table(engines: dict[str, Any]) -> str:
    """Return the figures of one model as a Markdown table."""
    peak = engines["embergem float32"]["peak_gflops"]
    lines = [
        "| engine | queries | documents | mixed | one query: p50, p99 | least cosine | 1 - cosine |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in engines.items():
        speeds = [f"{load['tokens_per_second']:,.0f}" for load in result["loads"].values()]
        error = max(0.0, result["cosine_error"])
        query = f"{result['query_ms_p50']:.1f}, {result['query_ms_p99']:.1f} ms"
        cosine = f"{result['least_cosine']:.4f} | {error:.1e}"
        lines.append(f"| {name} | {' | '.join(speeds)} | {query} | {cosine} |")
    shares = [f"{dtype} {engines[f'embergem {dtype}']['loads']['documents']['gflops'] / peak:.2f}" for dtype in DTYPES]
    lines += ["", f"Documents, share of the cores' float32 peak ({peak:.0f} GFLOP/s): {', '.join(shares)}"]
    by_length = {dtype: engines[f"embergem {dtype}"].get("lengths") for dtype in DRAWN}
    return "\n".join([*lines, *(growth(dtype, lengths) for dtype, lengths in by_length.items() if lengths)])


def growth(dtype: str, lengths: dict[str, dict[str, float]]) -> str:
    """Return how much more a token costs in a long text than in a short one, in time and in operations."""
    rates, work = lengths["tokens_per_second"], lengths["flops_per_token"]
    short, longest = str(SHORT), max(rates, key=int)
    return (
        f"{dtype}, a token in a text of {longest} tokens costs {rates[short] / rates[longest]:.2f} times the "
        f"time, {work[longest] / work[short]:.2f} times the operations of one in a text of {short}"
    )


def processor() -> str:
    """Return the name of the processor from /proc/cpuinfo, or the machine type."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure the models that the arguments name, or both."""
    models = {"gemma": assets() / "random-embeddinggemma-300m", "minilm": resolve(LoadOptions()).path}
    parser = ArgumentParser(description=main.__doc__)
    # Python 3.11 checks the default, an empty list, against the choices, too.
    parser.add_argument("models", nargs="*", choices=[*models, []], help="gemma, minilm; default: both")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of every engine; the best round counts")
    parser.add_argument("--quick", action="store_true", help="leave out slow engines, text lengths and plots")
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
        "command": " ".join(["python benchmarks/bench.py", *sys.argv[1:]]),
        "models": {},
    }
    out = ROOT / "benchmarks" / "results" / f"{result['date']}-{'-'.join(chosen)}.json"
    out.parent.mkdir(exist_ok=True)
    for name in chosen:
        result["models"][name] = bench(name, models[name], given.rounds, given.quick)
        print(f"\n{name}, tokens a second:\n\n{table(result['models'][name])}", flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    if not given.quick:
        draw(out, ROOT / "docs" / "plots")
    print(f"\nwrote {out.relative_to(ROOT)}" + ("" if given.quick else " and docs/plots"))


if __name__ == "__main__":
    main()
