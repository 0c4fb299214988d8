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
import venv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from parity import python as reference_python  # noqa: E402
from random_gemma import assets  # noqa: E402

from embergem import __version__  # noqa: E402
from embergem.checkpoint.resolve import resolve  # noqa: E402
from embergem.cli.bench import LATENCY_RUNS, QUERY_TOKENS, loads, measure  # noqa: E402
from embergem.engine import Engine, Request  # noqa: E402

PACKAGES = ("onnx==1.23.2", "onnxruntime==1.32.0", "openvino==2026.4.1", "safetensors", "numpy")
PROBE = (3, 17, 64, 128, 256)
"""Lengths of the rows whose vectors are compared."""


def peers_python() -> Path:
    """Return the interpreter that has ONNX Runtime and OpenVINO, making its environment when it is not there."""
    directory = assets() / "peers-venv"
    mark = directory / "complete"
    if not mark.exists() or mark.read_text() != " ".join(PACKAGES):
        venv.create(directory, with_pip=True, clear=True)
        command = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run(command, check=True)
        mark.write_text(" ".join(PACKAGES))
    return directory / "bin" / "python"


def rivals(name: str, checkpoint: Path) -> dict[str, tuple[Path, str, str]]:
    """Return what to run beside embergem: name -> (interpreter, kind, model)."""
    onnx = assets() / "onnx" / name
    peers = peers_python()
    if not (onnx / f"{name}.int8.onnx").exists():
        script = str(ROOT / "benchmarks" / "build_onnx.py")
        subprocess.run([str(peers), script, name, str(checkpoint), str(onnx)], check=True)
    return {
        "ONNX Runtime fp32": (peers, "onnxruntime", str(onnx / f"{name}.onnx")),
        "ONNX Runtime int8": (peers, "onnxruntime", str(onnx / f"{name}.int8.onnx")),
        "OpenVINO fp32": (peers, "openvino", str(onnx / f"{name}.onnx")),
        "sentence-transformers": (reference_python(), "sentence-transformers", str(checkpoint)),
    }


def bench(name: str, checkpoint: Path) -> dict[str, Any]:
    """Run every engine on one model."""
    engines: dict[str, Any] = {}
    vectors: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as scratch:
        order = Path(scratch) / "order.json"
        for dtype in ("float32", "int16"):
            with Engine.load(resolve(checkpoint), dtype=dtype) as engine:
                work = loads(engine.vocab_size, engine.limit)
                random = np.random.default_rng(7)
                probe = [random.integers(5, engine.vocab_size, n).tolist() for n in PROBE]
                query = [work["queries"][0][i % len(work["queries"][0])] for i in range(QUERY_TOKENS)]
                order.write_text(json.dumps(work | {"probe": probe, "query": query, "latency_runs": LATENCY_RUNS}))
                engines[f"embergem {dtype}"] = asdict(measure(engine))
                vectors[f"embergem {dtype}"] = engine.embed(Request(ids=probe)).vectors
        for rival, (python, kind, model) in rivals(name, checkpoint).items():
            out = Path(scratch) / "vectors.npy"
            command = [str(python), str(ROOT / "benchmarks" / "peer.py"), kind, model, str(order), str(out)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            engines[rival] = json.loads(done.stdout.splitlines()[-1])
            vectors[rival] = np.load(out)
    right = vectors["sentence-transformers"].astype(np.float64)
    for engine_name, found in vectors.items():
        products = np.sum(right * found, axis=1)
        lengths = np.linalg.norm(right, axis=1) * np.linalg.norm(found.astype(np.float64), axis=1)
        engines[engine_name]["cosine_error"] = float(1 - np.min(products / lengths))
    return engines


def table(engines: dict[str, Any]) -> str:
    """Print one model's figures as Markdown."""
    peak = engines["embergem float32"]["peak_gflops"]
    lines = [
        "| engine | queries | documents | mixed | one query | 1 - cosine |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, result in engines.items():
        speeds = [f"{load['tokens_per_second']:,.0f}" for load in result["loads"].values()]
        error = max(0.0, result["cosine_error"])
        lines.append(f"| {name} | {' | '.join(speeds)} | {result['query_ms_p50']:.1f} ms | {error:.1e} |")
    shares = [
        f"{dtype} {engines[f'embergem {dtype}']['loads']['documents']['gflops'] / peak:.2f}"
        for dtype in ("float32", "int16")
    ]
    return "\n".join(
        [*lines, "", f"Documents, share of the cores' float32 peak ({peak:.0f} GFLOP/s): {', '.join(shares)}"]
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
        "versions": {"embergem": __version__, "python": platform.python_version(), "peers": PACKAGES},
        "date": time.strftime("%Y-%m-%d"),
        "command": "python benchmarks/bench.py " + " ".join(chosen),
        "models": {},
    }
    for name in chosen:
        result["models"][name] = bench(name, models[name])
        print(f"\n{name}, tokens a second:\n\n{table(result['models'][name])}", flush=True)
    out = ROOT / "benchmarks" / "results" / f"{result['date']}-{'-'.join(chosen)}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwrote {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
