"""Mutation testing of the Rust crates with cargo-mutants: a seeded sample, and the tests that must notice.

    python scripts/native_mutants.py [--sample 50] [--seed 1] [--only crates/text] [--output DIRECTORY] [--list]

cargo-mutants makes the mutants and runs the Rust tests of the package. What these do not notice is built into the
native module, and the Python tests run that `[native]` of tests/mutants.toml names. The exit status is 1 if a mutant
survives both and is not in the list of that file.

A run that was stopped continues where it was, if `--output` is the same. Survivors run again.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mutants import copy_tree

ROOT = Path(__file__).parents[1]
PROFILE = "checks"
BASELINE_SECONDS = 3600
"""Most seconds of the Python tests without a mutant. With one they have 60 and five times what they took without."""


def main() -> int:
    """Run the sample; return 1 if a mutant survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=50, help="number of mutants")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    parser.add_argument("--only", default="", help="only files whose path begins with this")
    parser.add_argument("--output", type=Path, default=ROOT / "target" / "native-mutants", help="directory of results")
    parser.add_argument("--list", action="store_true", help="print the sample and run nothing")
    options = parser.parse_args()
    settings = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))
    drawn = sample(settings["native"], options.sample, options.seed, options.only)
    if options.list:
        print("\n".join(mutant["name"] for mutant in drawn))
        return 0
    survivors: list[dict[str, Any]] = []
    for place in settings["native"]:
        here = [mutant for mutant in drawn if mutant["file"].startswith(place)]
        missed = cargo_mutants(here, options.output / place.strip("/").replace("/", "-")) if here else []
        survivors += python_survivors(missed, settings["native"][place])
    listed = {entry["mutant"]: entry["reason"] for entry in settings.get("native_equivalent", [])}
    unknown = [mutant["name"] for mutant in survivors if without_line(mutant["name"]) not in listed]
    print(f"{len(drawn)} mutants, {len(survivors)} survived, {len(survivors) - len(unknown)} of them listed")
    print("\n".join(unknown))
    return int(bool(unknown))


def sample(places: Mapping[str, Any], size: int, seed: int, only: str = "") -> list[dict[str, Any]]:
    """Draw mutants without replacement from the files of `places`, in the order of the source."""
    listed = subprocess.run(
        ["cargo", "mutants", "--list", "--json", *(f"--file={place}**" for place in places)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    every = [mutant for mutant in json.loads(listed) if mutant["file"].startswith(only)]
    indices = random.Random(seed).sample(range(len(every)), min(size, len(every)))
    return [every[index] for index in sorted(indices)]


def cargo_mutants(drawn: Sequence[dict[str, Any]], output: Path) -> list[dict[str, Any]]:
    """Run the Rust tests for each mutant that has no result in `output` yet; return the mutants that survive."""
    names = "|".join(re.escape(mutant["name"]) for mutant in drawn)
    packages = sorted({mutant["package"] for mutant in drawn})
    # Optimizing a crate takes longer than its tests take without that.
    quick = [f"--cargo-arg=--config=profile.{PROFILE}.package.{name}.opt-level=1" for name in packages]
    output.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["cargo", "mutants", *(f"--package={name}" for name in packages), *quick, f"--re=^({names})$", "--iterate",
         f"--output={output}", f"--profile={PROFILE}", "--jobs=1", "--no-shuffle", "--colors=never", "--caught",
         "--minimum-test-timeout=120", "--timeout-multiplier=5"],
        cwd=ROOT, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 2, 3):  # 2: some were missed, 3: some timed out
        raise SystemExit(f"cargo mutants failed with exit status {done.returncode}")
    missed = set((output / "mutants.out" / "missed.txt").read_text(encoding="utf-8").splitlines())
    # cargo-mutants 27 also runs mutants that delete a field of a struct expression, whatever `--re` says.
    return [mutant for mutant in drawn if mutant["name"] in missed]


def python_survivors(missed: Sequence[dict[str, Any]], tests: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Build each mutant into the native module and run Python tests; yield the mutants that survive."""
    if not missed:
        return
    with tempfile.TemporaryDirectory(prefix="native-mutants-") as scratch:
        copy = copy_tree(Path(scratch))
        environment = build(copy)
        began = time.monotonic()
        if python_result(copy, environment, tests, BASELINE_SECONDS) != "survived":
            raise SystemExit(f"{', '.join(tests)} do not pass without a mutant.")
        limit = 60 + 5 * (time.monotonic() - began)
        for mutant in missed:
            subprocess.run(["patch", "--quiet", "--strip=0"], cwd=copy, input=mutant["diff"], text=True, check=True)
            build(copy)
            result = python_result(copy, environment, tests, limit)
            subprocess.run(
                ["patch", "--quiet", "--strip=0", "--reverse"], cwd=copy, input=mutant["diff"], text=True, check=True
            )
            print(f"{result:16}  {mutant['name']}", flush=True)
            if result == "survived":
                yield mutant


def build(copy: Path) -> dict[str, str]:
    """Build the native module of a copy of the tree; return the environment in which Python finds the copy."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target" / "native-mutants" / "target"))
    environment = os.environ | {"CARGO_TARGET_DIR": str(target), "PYTHONPATH": str(copy / "src")}
    command = ["cargo", "build", "--quiet", "--package=embergem-python", f"--profile={PROFILE}"]
    command.append("--features=pyo3/extension-module")
    if subprocess.run(command, cwd=copy, env=environment, check=False).returncode:
        raise SystemExit("The native module was not built.")
    module = copy / "src" / "embergem" / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    module.unlink(missing_ok=True)
    shutil.copy(target / PROFILE / "lib_native.so", module)
    return environment


def python_result(copy: Path, environment: Mapping[str, str], tests: Sequence[str], limit: float) -> str:
    """Run Python tests in a copy of the tree; return "survived" if they pass, or "timeout" after `limit` seconds."""
    command = [sys.executable, "-m", "pytest", "-xq", "-pno:cacheprovider", *(f"tests/{name}" for name in tests)]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return "timeout"
    return "killed by Python" if done.returncode else "survived"


def without_line(name: str) -> str:
    """Return the name of a mutant without its line and column, which change with every edit.

    >>> without_line("crates/text/src/trie.rs:12:5: replace > with <")
    'crates/text/src/trie.rs: replace > with <'
    """
    return re.sub(r"^([^:]+):\d+:\d+: ", r"\1: ", name)


if __name__ == "__main__":
    sys.exit(main())
