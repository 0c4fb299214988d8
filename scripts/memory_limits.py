"""Run `embergem embed` under limits of its address space (`ulimit -v`): each run works, or ends with one clear error.

    python scripts/memory_limits.py [--limits 60] [--seed 1] [--model DIRECTORY]

The limits are drawn between what Python and its libraries need for themselves and what a whole run needs. No run may
end with a signal, a traceback, another exit code than 4, or other vectors than those without a limit.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TINY = Path(__file__).parents[1] / "tests" / "data" / "goldens" / "gemma3_text"
TEXTS = ["What is graphene?", "Graphene is a single layer of carbon atoms."]

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


def main() -> int:
    """Print each run; the exit code is the number of faults."""
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
    return faults


if __name__ == "__main__":
    sys.exit(main())
