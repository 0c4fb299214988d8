"""Limit the address space of embergem (`ulimit -v`): it works, or fails with one clear error.

    python scripts/memory_limits.py [--limits 60] [--seed 1] [--model DIRECTORY]

First `embergem embed` runs under limits between what Python and its libraries need for themselves and what a whole run
needs. No run may end with a signal, a traceback, another exit code than 4, or other vectors than those without a limit.

Then one server gets limits of up to `SERVER_ROOM` above its size, one after the other, while clients send texts to it.
Each request gets the right vectors, or an error that says that memory is short. Without a limit at the end the server
answers every request.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from served import served

TINY = Path(__file__).parents[1] / "tests" / "data" / "goldens" / "gemma3_text"
TEXTS = ["What is graphene?", "Graphene is a single layer of carbon atoms."]

SERVER_ROOM = 64 << 20
"""Most bytes that a limit leaves to a server besides what it has already."""

REQUESTS: tuple[Any, ...] = (
    "What is graphene?", ["graphene " * 15] * 200, "graphene " * 100_000, ["中" * 50_000] * 4, [[5, 6, 7]] * 50,
)  # fmt: skip
"""What each client asks a server for: short and long texts, many texts, and token ids."""

SHORT_OF_MEMORY = ((507, "insufficient_memory"), (503, "overloaded"))
"""The errors that a server may answer with under a limit."""

PEAK = """
import sys
import embergem.cli.app, embergem.bulk.job, embergem.bulk.source, embergem.loader, numpy
if sys.argv[1:]:
    import embergem.cli
    try:
        embergem.cli.main()
    except SystemExit:
        pass
status = open("/proc/self/status").read().split("VmPeak:")[1]
print(status.split()[0], file=sys.stderr)
"""
"""Prints the most address space, in KiB, of a process that imported the libraries, or that ran a command."""


@dataclass(frozen=True)
class Outcome:
    """A run under a limit in bytes: its exit code, and what it printed."""

    limit: int
    code: int
    output: str
    errors: str

    def fault(self, expected: str) -> str | None:
        """Return what is wrong with the run; `expected` is its output without a limit."""
        if self.code == 0:
            return None if self.output == expected else "other vectors"
        if self.code < 0:
            return f"signal {-self.code}: {self.errors[-300:]}"
        lines = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        if self.code != 4 or len(lines) != 1 or "Traceback" in self.errors or "memory" not in lines[0]:
            return f"exit code {self.code}: {self.errors[-500:]}"
        return None


def with_bytecode(directory: str) -> dict[str, str]:
    """Return the environment of runs that keep their bytecode in `directory`.

    A run compiles no source then. Python's parser turns a failed allocation into a SyntaxError (seen with 3.11), and
    what is installed with pip has its bytecode.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": directory}


def embed(model: Path, limit: int, environment: dict[str, str]) -> Outcome:
    """Run `embergem embed` with at most `limit` bytes of address space."""
    command = [sys.executable, "-m", "embergem", "embed", "-m", str(model), *TEXTS]
    done = subprocess.run(
        command,
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Outcome(limit, done.returncode, done.stdout, done.stderr)


def peak(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Return the most bytes of address space of a process without a limit, and its output.

    The process imports the libraries and runs a command, if there is one.
    """
    command = [sys.executable, "-c", PEAK, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stderr.splitlines()[-1]) * 1024, done.stdout


def sweep(model: Path, count: int, seed: int) -> tuple[list[Outcome], str]:
    """Return the runs under `count` limits, and the output without a limit."""
    with tempfile.TemporaryDirectory() as directory:
        environment = with_bytecode(directory)
        command = ["embed", "-m", str(model), *TEXTS]
        peak(environment, *command)  # writes the bytecode, which takes more memory than to read it
        (least, _), (most, expected) = peak(environment), peak(environment, *command)
        choice = random.Random(seed)
        limits = sorted(choice.randrange(least, most) for _ in range(count - 2))
        return [embed(model, limit, environment) for limit in (least, *limits, most + (64 << 20))], expected


def ask(url: str, given: Any) -> tuple[int, Any]:
    """Return the status of a request for embeddings, and its vectors or its error code."""
    body = {"input": given, "truncate_sequence": True, "encoding_format": "base64"}
    answer = httpx2.post(f"{url}/v1/embeddings", json=body, timeout=60)
    content = answer.json()
    return answer.status_code, content["error"]["code"] if answer.is_error else [
        row["embedding"] for row in content["data"]
    ]


def sweep_server(model: Path, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what the requests of each limit got: the room in bytes, the responses, and the faults."""
    choice = random.Random(seed)
    rooms = [0, *sorted(choice.randrange(SERVER_ROOM) for _ in range(count - 1)), None]
    environment = {**os.environ, "EMBERGEM_CACHE_BYTES": "0", "EMBERGEM_ACCESS_LOG": "off"}
    server, pool = served("-m", str(model), environment=environment), ThreadPoolExecutor(len(REQUESTS))
    with server as (url, pid), pool as clients:
        expected = [ask(url, given)[1] for given in REQUESTS]
        for room in rooms:
            size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
            limit = resource.RLIM_INFINITY if room is None else size + room
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            found = list(clients.map(lambda given: ask(url, given), REQUESTS))
            faults = [
                f"request {index}: {status} {answer if status != 200 else 'with other vectors'}"
                for index, ((status, answer), right) in enumerate(zip(found, expected, strict=True))
                if answer != right and (room is None or (status, answer) not in SHORT_OF_MEMORY)
            ]
            yield {"room": room, "statuses": [status for status, _ in found], "faults": faults}


def main() -> int:
    """Print each run and each limit of the server; the exit code is the number of faults, at most 100."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--limits", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, default=TINY)
    arguments = parser.parse_args()
    runs, expected = sweep(arguments.model, arguments.limits, arguments.seed)
    faults = 0
    for run in runs:
        fault = run.fault(expected)
        faults += fault is not None
        words = run.errors.splitlines()[-1] if run.errors else ""
        print(json.dumps({"limit_mb": run.limit >> 20, "code": run.code, "fault": fault, "error": words}))
    for found in sweep_server(arguments.model, arguments.limits, arguments.seed):
        faults += len(found["faults"])
        print(json.dumps(found), flush=True)
    return min(faults, 100)


if __name__ == "__main__":
    sys.exit(main())
