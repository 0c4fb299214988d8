"""Mutation testing of a seeded sample: change the source in one place, and run the tests that must notice.

    python scripts/mutants.py [--sample 200] [--seed 1] [--only engine/scheduler.py] [--log FILE] [--list]

tests/mutants.toml maps each module of `engine`, `server`, `checkpoint` and `client` to its tests, so that a mutant
takes seconds, and lists the mutants that no test can kill, with the reason. Mutants run in a copy of the working tree.
Tests run in a fork of this process, which has imported libraries but nothing of embergem. The exit status is 1 if a
mutant survives that is not in the list.

With `--log`, a run that was stopped continues where it was: the results in the file count, except those of survivors,
which run again. A changed module or changed tests do not make a result invalid; use a new file for a new measurement.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mutation import Mutant, changed_lines, mutants

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "server", "checkpoint", "client")
LIBRARIES = ("hypothesis", "httpx", "httpx2", "msgspec", "numpy", "openai", "pytest", "starlette", "typer", "uvicorn")
"""Libraries that most tests import; importing them once saves seconds for each mutant."""


def main() -> int:
    """Run the sample; return 1 if a mutant survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=200, help="number of mutants")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    parser.add_argument("--only", default="", help="only modules whose path begins with this")
    parser.add_argument("--list", action="store_true", help="print the sample and run nothing")
    parser.add_argument("--log", type=Path, help="file of results as JSON lines; mutants that it has are not run again")
    options = parser.parse_args()
    settings = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))
    drawn = sample(options.sample, options.seed, options.only)
    if options.list:
        for module, mutant in drawn:
            print(f"{module}:{mutant.line}\n" + "\n".join(changed_lines(source(module), mutant)))
        return 0
    for library in LIBRARIES:
        importlib.import_module(library)
    results: Counter[str] = Counter()
    known = read_log(options.log) if options.log else {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        runner = Runner(Path(scratch))
        for number, (module, mutant) in enumerate(drawn, 1):
            lines = list(changed_lines(source(module), mutant))
            if (result := known.get(log_key(module, mutant.line, lines), "survived")) != "survived":
                results[result] += 1
                continue
            began = time.monotonic()
            result = runner.run(module, mutant, settings["tests"][module])
            if result == "survived" and reason(settings, module, lines):
                result = "equivalent"
            results[result] += 1
            print(f"{number:4} {result:10} {time.monotonic() - began:5.1f} s  {module}:{mutant.line}", flush=True)
            if result == "survived":
                print("\n".join(f"       {line}" for line in lines), flush=True)
            if options.log:
                entry = {"result": result, "module": module, "line": mutant.line, "change": lines}
                with options.log.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(entry) + "\n")
    print(", ".join(f"{count} {result}" for result, count in results.most_common()))
    return int(results["survived"] > 0)


def log_key(module: str, line: int, change: Sequence[str]) -> tuple[str, int, str]:
    """Return what identifies a mutant in the log."""
    return module, line, "\n".join(change)


def read_log(path: Path) -> dict[tuple[str, int, str], str]:
    """Return the results in a log, by `log_key`; the last one of each mutant. There is none if the file is missing."""
    entries = map(json.loads, path.read_text(encoding="utf-8").splitlines() if path.exists() else ())
    return {log_key(entry["module"], entry["line"], entry["change"]): entry["result"] for entry in entries}


def modules() -> list[str]:
    """Return the modules that have mutants, relative to src/embergem."""
    base = ROOT / "src" / "embergem"
    found = (path for package in PACKAGES for path in (base / package).rglob("*.py"))
    return sorted(path.relative_to(base).as_posix() for path in found if mutants(path.read_bytes()))


def source(module: str) -> bytes:
    """Return the source of a module."""
    return (ROOT / "src" / "embergem" / module).read_bytes()


def sample(size: int, seed: int, only: str = "") -> list[tuple[str, Mutant]]:
    """Draw mutants without replacement, ordered by module so that the same tests follow each other."""
    every = [(module, mutant) for module in modules() if module.startswith(only) for mutant in mutants(source(module))]
    return sorted(random.Random(seed).sample(every, min(size, len(every))), key=lambda drawn: drawn[0])


def reason(settings: dict[str, list[dict[str, str]]], module: str, lines: Sequence[str]) -> str | None:
    """Return why no test can kill a mutant; None if the list does not have it. Line numbers do not count."""
    change = "\n".join(lines)
    for entry in settings.get("equivalent", []):
        if entry["module"] == module and entry["change"].strip() == change:
            return entry["reason"]
    return None


def copy_tree(directory: Path) -> Path:
    """Copy the working tree, without the files that git ignores but with the native module; return the copy."""
    root = directory / "embergem"
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    names += [path.relative_to(ROOT).as_posix() for path in (ROOT / "src" / "embergem").glob("_native*.so")]
    for name in names:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    return root


class Runner:
    """Runs tests in a copy of the working tree.

    Args:
        directory: An empty directory for the copy.
    """

    def __init__(self, directory: Path) -> None:
        self._root = copy_tree(directory)
        self._log = directory / "log"
        self._seconds: dict[tuple[str, ...], float] = {}

    def run(self, module: str, mutant: Mutant, tests: Sequence[str]) -> str:
        """Return what became of a mutant: killed, timeout or survived."""
        limit = 30 + 5 * self._baseline(tests)
        path = self._root / "src" / "embergem" / module
        original = path.read_bytes()
        path.write_bytes(mutant.apply(original))
        try:
            status = self._pytest(tests, limit)
        finally:
            path.write_bytes(original)
        if status is None:
            return "timeout"
        return "survived" if status == 0 else "killed"

    def _baseline(self, tests: Sequence[str]) -> float:
        """Run tests without a mutant, once; return the seconds they take. They must pass."""
        key = tuple(tests)
        if key not in self._seconds:
            began = time.monotonic()
            if self._pytest(tests, 600) != 0:
                raise SystemExit(f"{', '.join(tests)} do not pass without a mutant:\n{self._log.read_text()[-3000:]}")
            self._seconds[key] = time.monotonic() - began
        return self._seconds[key]

    def _pytest(self, tests: Sequence[str], limit: float) -> int | None:
        """Run tests in a fork, with its processes in a group of their own; returns None after `limit` seconds."""
        child = os.fork()
        if child == 0:
            self._child(tests)
        until = time.monotonic() + limit
        try:
            while time.monotonic() < until:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.05)
        finally:
            _end_group(child)
        os.waitpid(child, 0)
        return None

    def _child(self, tests: Sequence[str]) -> None:
        """Run pytest in this process and end it."""
        status = 70
        try:
            os.setsid()
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.chdir(self._root)
            # Compiled files are found by time and size, which a mutant can share with the original.
            sys.dont_write_bytecode = True
            os.environ |= {"PYTHONPATH": str(self._root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
            sys.path[:] = [
                str(self._root / "src"),
                *(entry for entry in sys.path if not entry.startswith(str(ROOT / "s"))),
            ]
            hypothesis, pytest = (importlib.import_module(name) for name in ("hypothesis", "pytest"))
            phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # a smaller example is of no use here
            hypothesis.settings.register_profile("mutants", phases=phases, database=None)
            hypothesis.settings.load_profile("mutants")
            status = pytest.main(
                [
                    "-xq",
                    "-pno:cacheprovider",
                    "-Wignore::pytest.PytestAssertRewriteWarning",
                    *(f"tests/{name}" for name in tests),
                ]
            )
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(status))


def _end_group(leader: int) -> None:
    """End the processes that a run of tests left, and the run itself."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
