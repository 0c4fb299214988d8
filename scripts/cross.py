"""Build Rust code for another target: choose a compiler that has, or can build, its standard library."""

import os
import subprocess
from pathlib import Path

DEBIAN = Path("/usr/bin")
"""Directory of Debian's rustc-web and cargo-web, which are used beside a compiler of rustup."""

DEBIAN_SOURCES = Path("/usr/lib/rustlib/src/rust/library")
"""Sources of the standard library: Debian's rust-web-src."""


def environment(target: str) -> dict[str, str]:
    """Return the environment in which cargo can build for `target`.

    If the compiler in the PATH has the standard library of the target, that is the environment of this process.
    Otherwise it names Debian's compiler, which builds the standard library from its sources (`-Zbuild-std`).

    Raises:
        SystemExit: There is neither; the message says what to install.
    """
    compiler = os.environ.get("RUSTC", "rustc")
    if has_standard_library(compiler, target):
        return dict(os.environ)
    if not ((DEBIAN / "rustc").exists() and (DEBIAN / "cargo").exists() and DEBIAN_SOURCES.exists()):
        raise SystemExit(
            f"Rust's standard library for {target} is missing. Run `rustup target add {target}`, or on Debian "
            "`apt-get install rustc-web cargo-web rust-web-src`, which builds it from its sources."
        )
    return dict(os.environ) | {
        "CARGO": str(DEBIAN / "cargo"),
        "CARGO_UNSTABLE_BUILD_STD": "std,panic_unwind",
        "PATH": f"{DEBIAN}{os.pathsep}{os.environ['PATH']}",
        "RUSTC": str(DEBIAN / "rustc"),
        "RUSTC_BOOTSTRAP": "1",
    }


def has_standard_library(compiler: str, target: str) -> bool:
    """Return whether `compiler` exists and has the compiled standard library of `target`."""
    command = [compiler, "--print", "target-libdir", "--target", target]
    try:
        libraries = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return False
    return any(Path(libraries).glob("libstd-*.rlib"))
