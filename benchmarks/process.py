"""Measure the cost of a process with an embedder: start, memory, idle CPU time, 100 texts, and a busy Python thread.

    python benchmarks/process.py [MODEL]        (`make bench-process`)

Each figure comes from a new process with warm caches. The default MODEL is the full-size random EmbeddingGemma.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from random_gemma import assets  # noqa: E402

STARTS = 5
DTYPES = ("float32", "bfloat16", "int16", "int8")

START = """
from embergem import Embedder
Embedder({model!r}, dtype={dtype!r}).embed("What is graphene?")
"""

MEMORY = """
import re
from pathlib import Path
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.types import Request

with load(LoadOptions(model={model!r}, dtype={dtype!r})) as engine:
    ids = [[5 + (row * 97 + place) % 1000 for place in range(2048)] for row in range(6)]
    engine.embed(Request(ids=ids))
    anonymous = int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    packed, mapped = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mapped = "/packed/" in line
        elif mapped and line.startswith("Rss:"):
            packed += int(line.split()[1])
    print(anonymous / 1024, packed / 1024)
"""

IDLE = """
import os, time
from embergem import Embedder

embedder = Embedder({model!r})
embedder.embed(["What is graphene?"] * 100)
time.sleep(1)  # compute threads spin for a moment before they sleep
before = sum(os.times()[:2])
time.sleep(10)
print(sum(os.times()[:2]) - before)
"""

TEXTS = """
import time
from pathlib import Path
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.types import Request

with load(LoadOptions(model={model!r}, dtype="int16")) as engine:
    words = Path({words!r}).read_text().split()
    texts = [" ".join(words[i * 37 % 3000 :][: 20 + i * 13 % 150]) for i in range(100)]
    requests = [Request(texts=texts), Request(ids=[engine.tokenize(text) for text in texts])]
    best = [float("inf")] * 2
    for _ in range(5):
        for kind, request in enumerate(requests):
            start = time.perf_counter()
            engine.embed(request)
            best[kind] = min(best[kind], time.perf_counter() - start)
    print(*best)
"""

LATENCY = """
import threading, time
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.types import Request

with load(LoadOptions(model={model!r}, dtype="int16", threads=1)) as engine:
    ids = [[5 + place * 31 for place in range(30)]]
    if {inside}:
        threading.Thread(target=exec, args=({busy!r}, {{}}), daemon=True).start()
    times = []
    for run in range(330):
        start = time.perf_counter()
        engine.embed(Request(ids=ids))
        times.append((time.perf_counter() - start) * 1e3)
    times = sorted(times[30:])
    print(times[len(times) // 2], times[int(len(times) * 0.99)])
"""

BUSY = """
import json
document = {"texts": ["graphene " * 20] * 50, "numbers": list(range(2000))}
while True:
    json.loads(json.dumps(document))
"""


def run(code: str, **values: object) -> tuple[list[float], float]:
    """Run code in a new interpreter; return the numbers that it prints, and its seconds from start to end."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code.format(**values)], stdout=subprocess.PIPE, text=True, check=True)
    return [float(number) for number in done.stdout.split()], time.perf_counter() - start


def main() -> None:
    """Measure every figure and print it."""
    model = sys.argv[1] if len(sys.argv) > 1 else str(assets() / "random-embeddinggemma-300m")
    result: dict[str, object] = {"model": Path(model).name, "cores": len(os.sched_getaffinity(0))}
    for dtype in DTYPES:
        run(START, model=model, dtype=dtype)  # fill the caches: the next start is a warm one
        seconds = min(run(START, model=model, dtype=dtype)[1] for _ in range(STARTS))
        (anonymous, packed), _ = run(MEMORY, model=model, dtype=dtype)
        print(
            f"{dtype:9} a process that embeds one text takes {seconds:.2f} s; memory with texts of 2,048 tokens: "
            f"{anonymous:.0f} MB + {packed:.0f} MB of mapped packed weights",
            flush=True,
        )
        result[dtype] = {"start_s": seconds, "anonymous_mb": anonymous, "packed_mb": packed}
    [seconds], _ = run(IDLE, model=model)
    print(f"idle for ten seconds with a loaded model: {seconds * 1e3:.0f} ms of processor time")
    (as_texts, as_ids), _ = run(TEXTS, model=model, words=str(ROOT / "CHANGELOG.md"))
    print(f"one request of 100 texts: {as_texts:.3f} s; of their token ids: {as_ids:.3f} s (int16)")
    result |= {"idle_cpu_s": seconds, "as_texts_s": as_texts, "as_ids_s": as_ids}
    latency = {"idle": run(LATENCY, model=model, inside=False, busy=BUSY)[0]}
    latency["thread"] = run(LATENCY, model=model, inside=True, busy=BUSY)[0]
    neighbour = subprocess.Popen([sys.executable, "-c", BUSY])
    latency["process"] = run(LATENCY, model=model, inside=False, busy=BUSY)[0]
    neighbour.kill()
    neighbour.wait()
    for name, (p50, p99) in latency.items():
        beside = {"idle": "nothing", "thread": "a busy Python thread", "process": "a busy process"}[name]
        print(f"one query, threads=1, beside {beside}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    result["latency_ms"] = latency
    out = ROOT / "benchmarks" / "results" / f"{time.strftime('%Y-%m-%d')}-process.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
