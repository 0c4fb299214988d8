"""Measure what embergem's layers cost, with a model that costs almost nothing: the tiny static golden.

    python benchmarks/overhead.py [--against COMMIT] [--rounds 3] [--json FILE]

One round measures, for each tree in turn: one `Embedder.embed` of a new text in process, one `POST /v1/embeddings` of a
new text over a connection that stays open, and 32 wrk clients. A bare Starlette route, served by the same uvicorn, is
measured in the same rounds for scale. The table shows the best round of each figure, because noise of the machine only
makes a figure worse. Client, server and engine share the cores of the machine.

`--against` checks COMMIT out into a temporary git worktree. The worktree uses a copy of this tree's native module if
the Rust sources of both are equal, and builds its own otherwise.

Needs wrk (Debian package of that name).
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server import wrk
from trees import ROOT, worktree

sys.path.insert(0, str(ROOT / "scripts"))

from served import served, wait_for

MODEL = ROOT / "tests" / "data" / "goldens" / "static"
CLIENTS = 32
SECONDS = 2
"""Seconds of one wrk run."""
QUERIES = 1500
"""Texts of one round in process, and requests of one round over HTTP."""

TARGETS = {"embed_us": 80.0, "http_p50_ms": 0.4, "http_rate": 3500.0}

IN_PROCESS = """
import json, sys, time
from embergem import Embedder
from embergem._native import instruction_sets

embedder = Embedder(sys.argv[1])
print(instruction_sets()[-1], flush=True)
count = 0
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        count += 1
        text = f"what is graphene {count}"
        start = time.perf_counter()
        embedder.embed(text)
        times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
"""

BARE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def answer(request):
    await request.body()
    return Response(sys.argv[1].encode(), media_type="application/json")

async def ready(request):
    return Response(b"{}")

routes = [Route("/v1/embeddings", answer, methods=["POST"]), Route("/ready", ready)]
uvicorn.run(Starlette(routes=routes), port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


@dataclass(slots=True)
class Subject:
    """A thing to measure: one tree of embergem, or the bare route, which has no in-process peer (`process` is None)."""

    name: str
    url: str
    server_id: int
    process: "subprocess.Popen[str] | None" = None
    rounds: list[dict[str, float]] = field(default_factory=list)

    def measure(self) -> None:
        """Measure one round."""
        figures: dict[str, float] = {}
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            print(QUERIES, file=self.process.stdin, flush=True)
            figures["embed_us"] = statistics.median(json.loads(self.process.stdout.readline())) * 1e6
        before = cpu_seconds(self.server_id)
        figures["http_p50_ms"] = statistics.median(query_times(self.url, QUERIES)) * 1e3
        figures["server_cpu_us"] = (cpu_seconds(self.server_id) - before) / QUERIES * 1e6
        # wrk replaces "@" by the number of the request, so that no response comes from the cache.
        under_load = wrk(self.url, ['{"input": "what is graphene @"}'], clients=CLIENTS, seconds=SECONDS)
        figures["http_rate"] = under_load.rate
        self.rounds.append(figures)

    def best(self, figure: str) -> float | None:
        """Return the best round of a figure: the most requests a second, or the least time."""
        values = [one[figure] for one in self.rounds if figure in one]
        if not values:
            return None
        return max(values) if figure == "http_rate" else min(values)


def query_times(url: str, count: int) -> list[float]:
    """Return the seconds of each of `count` requests, one after the other on one connection."""
    host, port = url.removeprefix("http://").split(":")
    times = []
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(count):
            body = json.dumps({"input": f"what is a carbon lattice {number} {time.monotonic_ns()}"}).encode()
            head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            start = time.perf_counter()
            connection.sendall(request)
            answer = received(connection)
            times.append(time.perf_counter() - start)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(answer.decode(errors="replace"))
    return times


def received(connection: socket.socket) -> bytes:
    """Read one response with a Content-Length."""
    answer = b""
    while True:
        part = connection.recv(1 << 16)
        if not part:
            raise SystemExit("the server closed the connection")
        answer += part
        head, end, body = answer.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            return answer


def cpu_seconds(process_id: int) -> float:
    """Return the processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def bare_route(body: str) -> Iterator[tuple[str, int]]:
    """Serve a Starlette route that reads the request and answers `body`; yields its address and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", BARE, body, str(port)], text=True) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/ready", process, 30)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()


def start_tree(stack: ExitStack, name: str, tree: Path) -> tuple[Subject, str]:
    """Start the in-process peer and the server of a tree; return them and the kernels' instruction set."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    command = [sys.executable, "-c", IN_PROCESS, str(MODEL)]
    process = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    )
    stack.callback(process.kill)
    assert process.stdout is not None
    instruction_set = process.stdout.readline().strip()
    url, process_id = stack.enter_context(served("-m", str(MODEL), "--access-log", "off", environment=environment))
    return Subject(name, url, process_id, process), instruction_set


def machine(instruction_set: str) -> dict[str, Any]:
    """Describe the machine."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "instruction_set": instruction_set,
        "python": platform.python_version(),
    }


def show(subjects: list[Subject], about: dict[str, Any]) -> None:
    """Print the machine and the table."""
    print(f"{about['cpu']}, {about['cores']} cores, {about['instruction_set']}, CPython {about['python']}")
    print(f"best of {len(subjects[0].rounds)} rounds\n")
    rows = {
        "embed_us": "one embed in process, median, µs",
        "http_p50_ms": "one HTTP query, p50, ms",
        "server_cpu_us": "server's CPU time of one HTTP query, µs",
        "http_rate": f"{CLIENTS} clients, requests a second",
    }
    print("| figure | target | " + " | ".join(one.name for one in subjects) + " |")
    print("| --- " * (2 + len(subjects)) + "|")
    for figure, text in rows.items():
        target = f"{TARGETS[figure]:g}" if figure in TARGETS else ""
        values = [one.best(figure) for one in subjects]
        digits = 3 if figure == "http_p50_ms" else 0
        cells = ["" if value is None else f"{value:,.{digits}f}" for value in values]
        print(f"| {text} | {target} | " + " | ".join(cells) + " |")


def main() -> int:
    """Measure this tree, a named commit if there is one, and the bare route."""
    parser = argparse.ArgumentParser(description="Measure what embergem's layers cost.")
    parser.add_argument("--against", metavar="COMMIT", help="measure this commit in the same rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every round here")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with ExitStack() as stack:
        subject, instruction_set = start_tree(stack, "this tree", ROOT)
        subjects = [subject]
        if arguments.against:
            tree = stack.enter_context(worktree(arguments.against))
            subjects.append(start_tree(stack, arguments.against[:12], tree)[0])
        url, process_id = stack.enter_context(bare_route("x" * 1200))
        subjects.append(Subject("bare Starlette", url, process_id))
        for one in subjects:
            query_times(one.url, 200)
        for _ in range(arguments.rounds):
            for one in subjects:
                one.measure()
        about = machine(instruction_set)
        show(subjects, about)
    if arguments.json is not None:
        found = {"machine": about, "rounds": {one.name: one.rounds for one in subjects}}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
