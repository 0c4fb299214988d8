"""Compare the HTTP servers of embergem and infinity, with the same model (MiniLM) and the same texts.

    python benchmarks/beside.py [--json FILE]      (`make bench-beside`)

Needs wrk. The virtual environment of infinity, with torch, is created at the first run, in the directory of the test
assets. Responses are JSON numbers, the default of both servers. Neither server caches vectors.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server import ROOT, TEXTS, wrk

from embergem.hub.resolve import resolve
from embergem.options import LoadOptions

sys.path.insert(0, str(ROOT / "scripts"))

from served import python as environment
from served import served, wait_for

INFINITY = ("infinity-emb[server,torch]==0.0.78",)
CLIENTS = (1, 32)
PATIENCE = 180.0
"""Seconds that a server may take to start."""
BODIES = [json.dumps({"model": "minilm", "input": text}) for text in TEXTS]


def measure(url: str) -> dict[str, dict[str, float]]:
    """Return requests a second and milliseconds of a request, by the number of clients."""
    wrk(url, BODIES, clients=8, seconds=3)
    found = {clients: wrk(url, BODIES, clients) for clients in CLIENTS}
    return {
        f"{clients} clients": {
            "requests_a_second": round(answered.rate, 1),
            "p50_ms": round(answered.p50_ms, 2),
            "p95_ms": round(answered.p95_ms, 2),
        }
        for clients, answered in found.items()
    }


@contextmanager
def infinity(model: Path) -> Iterator[str]:
    """Run infinity on a free port until the block ends; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = environment("infinity", INFINITY).with_name("infinity_emb")
    command = [
        str(program), "v2", "--model-id", str(model), "--served-model-name", "minilm", "--engine", "torch",
        "--device", "cpu", "--port", str(port), "--url-prefix", "/v1", "--no-bettertransformer", "--log-level", "error",
    ]  # fmt: skip
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    with subprocess.Popen(command, env=offline, text=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/v1/models", process, PATIENCE)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def main() -> None:
    """Measure both, one after the other."""
    model = resolve(LoadOptions()).path
    results: dict[str, dict[str, dict[str, float]]] = {}
    with infinity(model) as url:
        results["infinity"] = measure(url)
    os.environ["EMBERGEM_CACHE_BYTES"] = "0"
    with served("-m", "minilm", "--access-log", "off") as (url, _):
        results["embergem"] = measure(url)
    for name, figures in results.items():
        for load, values in figures.items():
            print(f"{name:10} {load:12} " + ", ".join(f"{key} {value}" for key, value in values.items()))
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
