"""embergem's server beside infinity's: the same model (MiniLM), the same texts, through real sockets.

    python benchmarks/beside.py [--json FILE]      (`make bench-beside`)

Needs wrk. infinity lives in a virtual environment of its own beside the test assets, with torch, made at the first run.
Answers are JSON numbers, the default of both. Nothing is cached on either side.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from server import LUA, ROOT, SECONDS, TEXTS

from embergem.checkpoint.resolve import resolve

sys.path.insert(0, str(ROOT / "scripts"))

from served import python as environment
from served import served

INFINITY = ("infinity-emb[server,torch]==0.0.78",)
CLIENTS = (1, 32)
PATIENCE = 180.0
"""Seconds that a server may take to start."""
TIMES = """
done = function(summary, latency)
  print(string.format("found %f %f %f", latency:percentile(50) / 1000, latency:percentile(95) / 1000,
    summary.requests / summary.duration * 1e6))
end
"""


def measure(url: str, clients: int, seconds: int = SECONDS) -> dict[str, float]:
    """Requests a second, and milliseconds of a request, while `clients` ask, each waiting for its answer."""
    bodies = ", ".join(json.dumps(json.dumps({"model": "minilm", "input": text})) for text in TEXTS)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % bodies + TIMES)
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", script.name, url]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"found (\S+) (\S+) (\S+)", shown)
    if found is None or "Non-2xx" in shown or "Socket errors" in shown:
        raise SystemExit(shown)
    p50, p95, rate = map(float, found.groups())
    return {"requests_a_second": round(rate, 1), "p50_ms": round(p50, 2), "p95_ms": round(p95, 2)}


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
    with subprocess.Popen(command, env=offline) as process:
        try:
            url, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
            while True:
                try:
                    httpx2.get(f"{url}/v1/models").raise_for_status()
                    break
                except httpx2.HTTPError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise SystemExit("infinity did not start; see above") from None
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def main() -> None:
    """Measure both, one after the other."""
    model = resolve().path
    results: dict[str, dict[str, dict[str, float]]] = {}
    with infinity(model) as url:
        measure(url, 8, 3)
        results["infinity"] = {f"{clients} clients": measure(url, clients) for clients in CLIENTS}
    os.environ["EMBERGEM_CACHE_BYTES"] = "0"
    with served("-m", "minilm", "--access-log", "off") as (url, _):
        measure(url, 8, 3)
        results["embergem"] = {f"{clients} clients": measure(url, clients) for clients in CLIENTS}
    for name, figures in results.items():
        for load, values in figures.items():
            print(f"{name:10} {load:12} " + ", ".join(f"{key} {value}" for key, value in values.items()))
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
