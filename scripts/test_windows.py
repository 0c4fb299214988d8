"""Build embergem for Windows and run the tests of its Rust crates under Wine.

python scripts/test_windows.py             # the tests, and the Python extension is linked
python scripts/test_windows.py -- NAME     # only the tests whose names contain NAME

It needs Debian's mingw-w64 and wine, and Rust's standard library for x86_64-pc-windows-gnu or the sources of it. It
shows that the code compiles and runs; Windows itself may still differ from Wine.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cross import environment

ROOT = Path(__file__).parents[1]
TARGET = "x86_64-pc-windows-gnu"
COMPILER = "x86_64-w64-mingw32-gcc"
NEEDED = {"wine": "wine and wine64", COMPILER: "mingw-w64"}

RANDOM = """
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size) { return RtlGenRandom(data, size); }
"""
"""The function of bcryptprimitives.dll that Rust's standard library calls. Wine before version 9 lacks the library."""


def main() -> int:
    """Return 0 if all tests pass and the extension links."""
    lacking = [f"{tool} (Debian package {package})" for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if lacking:
        print("Install what is missing first:\n  " + "\n  ".join(lacking), file=sys.stderr)
        return 2
    names = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    variables = environment(TARGET) | {
        "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER": "wine",
        "WINEDEBUG": "-all",
        "WINEPREFIX": str(target / "wine"),
    }
    provide_random(target / TARGET / "checks" / "deps")
    crates = [part for crate in ("core", "checkpoint", "text") for part in ("-p", f"embergem-{crate}")]
    tests = [
        cargo(variables, "test", *crates, "-p", "embergem", "--lib", "--tests", "--no-fail-fast", "--", *names),
        cargo(variables, "build", "-p", "embergem-python", "--features", "pyo3/extension-module"),
    ]
    return 0 if all(tests) else 1


def cargo(variables: Mapping[str, str], command: str, *arguments: str) -> bool:
    """Run a command of cargo for Windows; return whether it succeeded."""
    program = variables.get("CARGO", "cargo")
    line = [program, command, "--profile", "checks", "--target", TARGET, "--locked", *arguments]
    return subprocess.run(line, cwd=ROOT, env=variables, check=False).returncode == 0


def provide_random(directory: Path) -> None:
    """Put a bcryptprimitives.dll beside the test programs, where Wine looks first."""
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "bcryptprimitives.c"
    source.write_text(RANDOM)
    library = directory / "bcryptprimitives.dll"
    subprocess.run([COMPILER, "-shared", "-o", library, source, "-ladvapi32"], check=True)


if __name__ == "__main__":
    sys.exit(main())
