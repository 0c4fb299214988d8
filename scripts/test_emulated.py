"""Run the kernel tests on processors that this machine is not, under qemu's user mode: ARM ones and an old x86-64."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ARM = "aarch64-unknown-linux-gnu"
SYSROOT = "/usr/aarch64-linux-gnu"

# What each processor is for. The test binary says itself which kernels it found.
PROCESSORS = {
    "arm": (
        ARM,
        f"qemu-aarch64 -L {SYSROOT} -cpu",
        ["max", "cortex-a76", "cortex-a57"],  # everything; dot products but no matrix ones; plain NEON
    ),
    "portable": (
        "x86_64-unknown-linux-gnu",
        "qemu-x86_64 -cpu",
        ["qemu64"],  # SSE2 and nothing later: the kernels in plain Rust
    ),
}
NEEDED = {
    "arm": {
        "qemu-aarch64": "qemu-user",
        "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross",
    },
    "portable": {"qemu-x86_64": "qemu-user"},
}
STANDARD_LIBRARY = (
    f"Rust's standard library for {ARM}: `rustup target add {ARM}`, or else `dpkg --add-architecture arm64`, "
    "the Debian packages rustc-web and libstd-rust-web-dev:arm64, and RUSTC=/usr/bin/rustc"
)


def missing(what: str) -> list[str]:
    """What this machine lacks, and where it comes from."""
    lacking = [
        f"{tool} (Debian package {package})" for tool, package in NEEDED[what].items() if shutil.which(tool) is None
    ]
    if what == "arm":
        compiler = os.environ.get("RUSTC", "rustc")
        libraries = subprocess.run(
            [compiler, "--print", "target-libdir", "--target", ARM], capture_output=True, text=True, check=True
        ).stdout.strip()
        if not any(Path(libraries).glob("libstd-*.rlib")):
            lacking.append(STANDARD_LIBRARY)
    elif platform.machine() != "x86_64":
        lacking.append("an x86-64 machine")
    return lacking


def test(what: str, arguments: list[str]) -> bool:
    """Run the tests on each processor; all of them, to see what fails where."""
    target, runner, processors = PROCESSORS[what]
    variable = "CARGO_TARGET_" + target.upper().replace("-", "_")
    passed = True
    for processor in processors:
        print(f"--- {processor}", flush=True)
        environment = os.environ | {f"{variable}_RUNNER": f"{runner} {processor}"}
        if what == "arm":
            environment[f"{variable}_LINKER"] = "aarch64-linux-gnu-gcc"
        command = ["cargo", "test", "--release", "--quiet", "-p", "embergem-core", "--lib", "--target", target]
        passed &= subprocess.run([*command, *arguments], env=environment, check=False).returncode == 0
    return passed


def main() -> int:
    """Test on the machines named first ("arm", "portable"); what follows goes to cargo test."""
    what, arguments = sys.argv[1], sys.argv[2:]
    lacking = missing(what)
    if lacking:
        print("this needs, and does not install:\n  " + "\n  ".join(lacking), file=sys.stderr)
        return 2
    return 0 if test(what, arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
