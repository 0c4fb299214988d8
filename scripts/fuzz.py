"""Fuzz the readers of files: python scripts/fuzz.py [--native] [--seconds N] [TARGET ...].

Without --native, the readers of the Python package run under atheris, which measures the coverage of the Python code.
Its virtual environment is beside the test assets. With --native, the targets of crates/fuzz run under libFuzzer and
AddressSanitizer, which check the native code. This needs cargo-fuzz (`cargo install cargo-fuzz`) and some minutes to
build.

Inputs that reach new code are kept in `fuzz-corpus` beside the assets for the next run. An input that shows a fault is
written to the directory `fuzz-faults` here. After the fix, add it to tests/data/fuzz/TARGET, so that every test run
tries it.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from random_gemma import assets
from served import python

ROOT = Path(__file__).parents[1]
TARGETS = ("safetensors", "gguf_file", "modules", "config", "manifest", "program", "tokenizer")
NATIVE = {
    "weights": {"weights": "goldens/bert_mean/model.safetensors", "gguf": "fuzz/gguf_file/*"},
    "program": {},
    "tokenizer": {"tokenizer": "goldens/*/tokenizer.json"},
    "modules": {"modules": "goldens/*/modules.json"},
}
"""Targets of crates/fuzz, and for each the files under tests/data that its corpus begins with."""
SEED = 65_536
"""Most bytes of an input."""
PACKAGES = ("atheris==3.0.0", "numpy", "msgspec", "huggingface_hub", "typer", "rich", "safetensors")
RUNNER = """
import sys
import atheris

with atheris.instrument_imports(include=["embergem.checkpoint", "embergem.models"]):
    import fuzzing

fuzzing.prepare()
target = getattr(fuzzing, sys.argv[1])
for number, seed in enumerate(fuzzing.seeds()[target]):
    with open(f"{sys.argv[2]}/seed-{number}", "wb") as file:
        file.write(seed)
atheris.Setup([sys.argv[0], *sys.argv[3:], sys.argv[2]], target)
atheris.Fuzz()
"""


def by_atheris(target: str, corpus: Path, options: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that fuzzes a Python target, and its environment."""
    paths = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    return [str(python("fuzz", PACKAGES)), "-c", RUNNER, target, str(corpus), *options], paths


def by_cargo(target: str, corpus: Path, options: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command that fuzzes a native target, and its environment, which lets stable Rust use sanitizers."""
    for name, files in NATIVE[target].items():
        for number, file in enumerate(sorted((ROOT / "tests" / "data").glob(files))):
            (corpus / f"seed-{name}-{number}").write_bytes(file.read_bytes()[:SEED])
    command = ["cargo", "fuzz", "run", "--fuzz-dir", str(ROOT / "crates" / "fuzz"), target, str(corpus), "--", *options]
    return command, {"RUSTC_BOOTSTRAP": "1"}


def main() -> None:
    """Fuzz each target for the given time; exit with 1 if one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--native", action="store_true", help=f"fuzz the targets of crates/fuzz: {', '.join(NATIVE)}")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    all_targets, way = (tuple(NATIVE), by_cargo) if arguments.native else (TARGETS, by_atheris)
    if unknown := set(arguments.targets) - set(all_targets):
        parser.error(f"there is no target {', '.join(unknown)}")
    if arguments.native and shutil.which("cargo-fuzz") is None:
        parser.error("--native needs cargo-fuzz; install it with: cargo install cargo-fuzz")
    faults = ROOT / "fuzz-faults"
    faults.mkdir(exist_ok=True)
    bad = []
    for target in arguments.targets or all_targets:
        corpus = assets() / "fuzz-corpus" / f"{'native-' if arguments.native else ''}{target}"
        corpus.mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={arguments.seconds}", f"-artifact_prefix={faults}/{target}-", "-rss_limit_mb=2048",
            "-timeout=20", f"-max_len={SEED}", "-print_final_stats=1", "-verbosity=0",
        ]  # fmt: skip
        command, environment = way(target, corpus, options)
        run = subprocess.run(command, env=os.environ | environment, check=False, text=True, stderr=subprocess.PIPE)
        executed = [line.split()[-1] for line in run.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{target}: {'fault' if run.returncode else 'sound'}, {(executed or ['?'])[0]} files", flush=True)
        if run.returncode:
            print(run.stderr[-3000:])
            bad.append(target)
    sys.exit(f"faults in {', '.join(bad)}; see {faults}" if bad else 0)


if __name__ == "__main__":
    main()
