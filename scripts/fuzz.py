"""Fuzz the readers of files with atheris: python scripts/fuzz.py [--seconds N] [TARGET ...].

atheris lives in a virtual environment of its own beside the test assets. What it finds interesting is kept in
`fuzz-corpus` there and used again; a fault is written to the directory `fuzz-faults` here: put it into
tests/data/fuzz/TARGET once it is mended, and every test run tries it.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from random_gemma import assets
from served import python

ROOT = Path(__file__).parents[1]
TARGETS = ("safetensors", "gguf_file", "modules", "config", "manifest", "program", "tokenizer")
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


def main() -> None:
    """Run each target for its time; exit with 1 when one finds a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no target is called {', '.join(unknown)}")
    faults = ROOT / "fuzz-faults"
    faults.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    bad = []
    for target in arguments.targets or TARGETS:
        corpus = assets() / "fuzz-corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={arguments.seconds}", f"-artifact_prefix={faults}/{target}-", "-rss_limit_mb=2048",
            "-timeout=20", "-max_len=65536", "-print_final_stats=1", "-verbosity=0",
        ]  # fmt: skip
        command = [python("fuzz", PACKAGES), "-c", RUNNER, target, str(corpus), *options]
        run = subprocess.run(command, env=environment, check=False, text=True, stderr=subprocess.PIPE)
        executed = [line.split()[-1] for line in run.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{target}: {'fault' if run.returncode else 'sound'}, {(executed or ['?'])[0]} files", flush=True)
        if run.returncode:
            print(run.stderr[-3000:])
            bad.append(target)
    sys.exit(f"faults in {', '.join(bad)}; see {faults}" if bad else 0)


if __name__ == "__main__":
    main()
