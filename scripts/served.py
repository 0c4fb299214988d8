"""Start a real server process for scripts, and create virtual environments for other libraries and tools."""

import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
from random_gemma import assets

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "data" / "goldens" / "gemma3_text"


@contextmanager
def served(
    *arguments: str, patience: float = 300, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """Run `embergem serve` on a free port until the block ends; yields its address and process id."""
    command = [sys.executable, "-m", "embergem", "serve", "-p", "0", "--log-level", "warning", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"listening on (http://[^/]+)/v1", process.stdout.readline())
            if found is None:
                raise SystemExit("the server did not start")
            wait_for(f"{found.group(1)}/ready", process, patience)
            yield found.group(1), process.pid
        finally:
            process.terminate()
            process.wait(60)


def wait_for(address: str, process: "subprocess.Popen[str]", patience: float) -> None:
    """Wait until `address`, which `process` serves, answers with status 200."""
    until = time.monotonic() + patience
    while True:
        with suppress(httpx2.TransportError):  # the server does not listen yet
            if httpx2.get(address).status_code == 200:
                return
        if time.monotonic() > until or process.poll() is not None:
            raise SystemExit(f"{address} was not ready within {patience:.0f} s")
        time.sleep(0.1)


def python(name: str, packages: Sequence[str]) -> Path:
    """Return the Python of a virtual environment with `packages`; the first call creates it beside the test assets."""
    directory = assets() / f"{name}-venv"
    programs = "Scripts" if os.name == "nt" else "bin"
    found, mark = directory / programs / "python", directory / "complete"
    if not mark.exists() or mark.read_text() != " ".join(packages):
        print(f"installing {', '.join(packages)} into {directory}", flush=True)
        venv.create(directory, with_pip=True, clear=True)
        pip = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for package in packages:  # in order: a package that pins torch comes before one that would fetch another torch
            subprocess.run([*pip, package], check=True)
        mark.write_text(" ".join(packages))
    return found
