"""Build Rust code for another target: choose a compiler that has, or can build, its standard library."""

import os
import platform
import subprocess
from pathlib import Path

DEBIAN = Path("/usr/bin")
"""Directory of Debian's rustc-web and cargo-web, which are used beside a compiler of rustup."""

DEBIAN_PACKAGES = {
    "rustc-web": DEBIAN / "rustc",
    "cargo-web": DEBIAN / "cargo",
    "rust-web-src": Path("/usr/lib/rustlib/src/rust/library"),
}
"""Debian's packages for any target, each with a file or a directory that it has."""

STRIP_PACKAGE = ("rust-web-llvm", Path(f"/usr/lib/rustlib/{platform.machine()}-unknown-linux-gnu/bin/rust-objcopy"))
"""Debian's package with the program that removes debug information from a binary for macOS."""


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
    packages = DEBIAN_PACKAGES | (dict([STRIP_PACKAGE]) if "-apple-" in target else {})
    if not all(path.exists() for path in packages.values()):
        raise SystemExit(
            f"Rust's standard library for {target} is missing. Run `rustup target add {target}`, or on Debian "
            f"`apt-get install {' '.join(packages)}`, which builds it from its sources."
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
