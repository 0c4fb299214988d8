"""Run the kernel tests under qemu's user mode on emulated processors: three ARM ones and an old x86-64 one."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ARM = "aarch64-unknown-linux-gnu"
SYSROOT = "/usr/aarch64-linux-gnu"

# For each group: the target, the emulator, and its processors with the instruction sets that the kernels must find.
PROCESSORS = {
    "arm": (
        ARM,
        f"qemu-aarch64 -L {SYSROOT} -cpu",
        {
            "max": "portable neon neon-dotprod neon-i8mm",
            "cortex-a76": "portable neon neon-dotprod",
            "cortex-a57": "portable neon",
        },
    ),
    "portable": (
        "x86_64-unknown-linux-gnu",
        "qemu-x86_64 -cpu",
        {"qemu64": "portable"},  # SSE2 and nothing later
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
    """Return the tools that this machine lacks, with the packages that contain them."""
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
    """Run the tests on each processor, even if they fail on one; return whether all passed."""
    target, runner, processors = PROCESSORS[what]
    variable = "CARGO_TARGET_" + target.upper().replace("-", "_")
    passed = True
    for processor, instruction_sets in processors.items():
        print(f"--- {processor}: {instruction_sets}", flush=True)
        environment = os.environ | {
            f"{variable}_RUNNER": f"{runner} {processor}",
            "EMBERGEM_TEST_INSTRUCTION_SETS": instruction_sets,
        }
        if what == "arm":
            environment[f"{variable}_LINKER"] = "aarch64-linux-gnu-gcc"
            environment["OBJDUMP"] = "aarch64-linux-gnu-objdump"  # a test reads the instructions of its own binary
        command = ["cargo", "test", "--release", "--quiet", "-p", "embergem-core", "--lib", "--target", target]
        passed &= subprocess.run([*command, *arguments], env=environment, check=False).returncode == 0
    return passed


def main() -> int:
    """Test the groups that the first arguments name ("arm", "portable"); cargo test gets the other arguments."""
    what, arguments = sys.argv[1], sys.argv[2:]
    lacking = missing(what)
    if lacking:
        print("Install what is missing first:\n  " + "\n  ".join(lacking), file=sys.stderr)
        return 2
    return 0 if test(what, arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
