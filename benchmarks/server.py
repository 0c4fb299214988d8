"""Compare the server with its engine in process: throughput with wrk, latency with hey, through real sockets.

    python benchmarks/server.py [--json FILE] [minilm] [gemma]

Needs wrk and hey (Debian packages of these names). The load generator, the server and the engine share the machine;
in production the load generator would run on another one.
"""

import csv
import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from random_gemma import assets  # noqa: E402
from served import served  # noqa: E402

from embergem.engine import Engine, Request  # noqa: E402
from embergem.hub.resolve import resolve  # noqa: E402
from embergem.loader import load  # noqa: E402
from embergem.options import LoadOptions  # noqa: E402

CLIENTS = 32
SECONDS = 8
ROUNDS = 3
_WORDS = ("graphene", "honeycomb", "carbon", "lattice", "water", "apple", "river", "stone", "engine", "vector")
_RANDOM = random.Random(0)
TEXTS = [" ".join(_RANDOM.choices(_WORDS, k=20)) for _ in range(200)]

LUA = """
local bodies = {%s}
local headers = {["Content-Type"] = "application/json"}
local n = 0
request = function()
  n = n + 1
  return wrk.format("POST", "/v1/embeddings", headers, (bodies[n %% #bodies + 1]:gsub("@", n)))
end
done = function(summary, latency)
  print(string.format("found %%f %%f %%f", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000))
end
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """A result of wrk: requests a second of all clients together, and milliseconds of one request."""

    rate: float
    p50_ms: float
    p95_ms: float


def wrk(url: str, bodies: list[str], clients: int = CLIENTS, seconds: int = SECONDS) -> Answered:
    """Run wrk with `clients` connections, each of which has one request in flight.

    The requests take turns with `bodies`; a "@" in one becomes the number of the request.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % ", ".join(json.dumps(body) for body in bodies))
        script.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "60s", "-s", script.name, url]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"found (\S+) (\S+) (\S+)", shown)
    if found is None or "Non-2xx" in shown or "Socket errors" in shown:
        raise SystemExit(shown)
    return Answered(*map(float, found.groups()))


def hey(url: str, body: str, count: int, rate: int) -> list[float]:
    """Return the milliseconds of each of `count` requests of one client, at most `rate` a second."""
    command = ["hey", "-n", str(count), "-c", "1", "-q", str(rate), "-m", "POST", "-T", "application/json", "-o", "csv",
               "-d", body, f"{url}/v1/embeddings"]  # fmt: skip
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = list(csv.DictReader(io.StringIO(shown)))
    if any(row["status-code"] != "200" for row in rows):
        raise SystemExit(shown)
    return sorted(float(row["response-time"]) * 1000 for row in rows)


def percentile(values: list[float], share: float) -> float:
    """Return the value that a `share` of the sorted `values` does not exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]


def body(text: str) -> str:
    """Return the body of a request for one text, answered in base64."""
    return json.dumps({"input": text, "encoding_format": "base64"})


def all_at_once(engine: Engine, seconds: float = SECONDS) -> float:
    """Return the texts a second of calls with all texts."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        engine.embed(Request(texts=TEXTS))
        done += len(TEXTS)
    return done / (time.perf_counter() - began)


def one_by_one(engine: Engine, count: int, rate: int) -> list[float]:
    """Return the milliseconds of each of `count` queries in process, at the same rate as hey."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        engine.embed(Request(texts=[TEXTS[0]]))
        times.append((time.perf_counter() - start) * 1000)
        time.sleep(max(0.0, 1 / rate - times[-1] / 1000))
    return sorted(times)


def measure(model: str, count: int, rate: int) -> dict[str, float]:
    """Measure all figures of one model. Engine and server take turns, and the best of `ROUNDS` counts."""
    bodies = [body(text) for text in TEXTS]
    os.environ["EMBERGEM_CACHE_BYTES"] = "0"
    with load(LoadOptions(model=model)) as engine, served("-m", model, "--access-log", "off") as (url, _):
        tokens = statistics.mean(len(row.ids) for row in engine.prepare(Request(texts=TEXTS)))
        wrk(url, bodies, seconds=2)
        throughput = [(all_at_once(engine), wrk(url, bodies).rate) for _ in range(ROUNDS)]
        latency = [(one_by_one(engine, count, rate), hey(url, bodies[0], count, rate)) for _ in range(ROUNDS)]
    texts, over = (max(rates) for rates in zip(*throughput, strict=True))
    own, times = (min(runs, key=statistics.median) for runs in zip(*latency, strict=True))
    del os.environ["EMBERGEM_CACHE_BYTES"]
    with served("-m", model, "--access-log", "off") as (url, _):
        known = wrk(url, [body(TEXTS[0])], seconds=5).rate
        known_times = hey(url, body(TEXTS[0]), 500, 100)
    return {
        "tokens_a_text": round(tokens, 1),
        "in_process_texts_a_second": round(texts, 1),
        "http_texts_a_second": round(over, 1),
        "share": round(over / texts, 3),
        "engine_p50_ms": round(percentile(own, 0.5), 2),
        "engine_p99_ms": round(percentile(own, 0.99), 2),
        "http_p50_ms": round(percentile(times, 0.5), 2),
        "http_p99_ms": round(percentile(times, 0.99), 2),
        "added_p50_ms": round(percentile(times, 0.5) - percentile(own, 0.5), 2),
        "added_p99_ms": round(percentile(times, 0.99) - percentile(own, 0.99), 2),
        "cached_queries_a_second": round(known),
        "cached_p50_ms": round(percentile(known_times, 0.5), 2),
        "cached_p99_ms": round(percentile(known_times, 0.99), 2),
    }


def main() -> int:
    """Measure the models that the arguments name, or both."""
    for tool in ("wrk", "hey"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed: apt-get install wrk hey")
    arguments = sys.argv[1:]
    out = Path(arguments.pop(arguments.index("--json") + 1)) if "--json" in arguments else None
    wanted = [name for name in arguments if name != "--json"] or ["minilm", "gemma"]
    models = {
        "minilm": (str(resolve(LoadOptions()).path), 400, 40),
        "gemma": (str(assets() / "random-embeddinggemma-300m"), 100, 5),
    }
    results = {}
    for name in wanted:
        results[name] = measure(*models[name])
        print(f"{name}:")
        for figure, value in results[name].items():
            print(f"  {figure:28} {value:>10}")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
