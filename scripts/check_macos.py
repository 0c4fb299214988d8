"""Compile and link embergem for macOS on another system: the Rust SDK and the Python extension, with zig as the linker.

python scripts/check_macos.py              # both architectures
python scripts/check_macos.py -p NAME      # only the crate NAME

Nothing is run: that needs a Mac.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

from cross import environment

ROOT = Path(__file__).parents[1]
TARGETS = ("aarch64-apple-darwin", "x86_64-apple-darwin")
CRATES = ("-p", "embergem", "-p", "embergem-python")
UNDEFINED = "-C link-arg=-undefined -C link-arg=dynamic_lookup"
"""A Python extension takes Python's functions from the process that loads it."""


def main() -> int:
    """Return 0 if everything links for both architectures."""
    program = str(Path(sysconfig.get_path("scripts")) / "cargo-zigbuild")
    linked = True
    for target in TARGETS:
        print(f"--- {target}", flush=True)
        variables = environment(target) | {"CARGO_ZIGBUILD_PYTHON_PATH": sys.executable, "RUSTFLAGS": UNDEFINED}
        command = [program, "zigbuild", "--profile", "checks", "--locked", "--target", target]
        done = subprocess.run([*command, *(sys.argv[1:] or CRATES)], cwd=ROOT, env=variables, check=False)
        linked &= done.returncode == 0
    return 0 if linked else 1


if __name__ == "__main__":
    sys.exit(main())
