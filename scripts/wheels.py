"""Build the wheel for this machine, or with --all those of both Linux architectures, and the source distribution.

python scripts/wheels.py dist [--all]

On Linux, zig links the wheels for manylinux_2_28, so they run with glibc 2.28 and later, and auditwheel checks them.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from cross import environment

MANYLINUX = "manylinux_2_28"
ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def main() -> None:
    """Build into the directory of the first argument, which is made if necessary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--all", action="store_true", help="build the wheels of both Linux architectures")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--no-source", action="store_true", help="build no source distribution")
    only.add_argument("--source-only", action="store_true", help="build no wheel")
    arguments = parser.parse_args()
    own = ARCHITECTURES.get(platform.machine(), platform.machine())
    if not arguments.no_source:
        maturin("sdist", "--out", str(arguments.directory))
    if arguments.source_only:
        return
    if sys.platform != "linux":
        maturin("build", "--release", "--locked", "--out", str(arguments.directory))
        return
    for architecture in sorted({own, "x86_64", "aarch64"}) if arguments.all else [own]:
        linux_wheel(architecture, arguments.directory)


def linux_wheel(architecture: str, directory: Path) -> None:
    """Build the wheel of an architecture and check its tag."""
    target = f"{architecture}-unknown-linux-gnu"
    print(f"building the wheel for {architecture}", flush=True)
    maturin(
        *("build", "--release", "--locked", "--zig", "--target", target, "--compatibility", MANYLINUX),
        *("--out", str(directory)),
        target=target,
    )
    [wheel] = directory.glob(f"*-{MANYLINUX}_{architecture}.whl")
    if "-abi3-" not in wheel.name:
        sys.exit(f"{wheel.name} is not an abi3 wheel")
    report = subprocess.run(
        [program("auditwheel"), "show", wheel], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    tags = re.findall(r'platform tag:\s*"(\w+)"', report)
    if not tags or any(glibc(tag) > glibc(MANYLINUX) for tag in tags):
        sys.exit(f"{wheel.name} does not run on {MANYLINUX}:\n{report}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, auditwheel: {tags[0]}", flush=True)


def glibc(tag: str) -> tuple[int, ...]:
    """Return the version of glibc that a manylinux tag needs; a plain linux tag needs an unknown one."""
    found = re.match(r"manylinux_(\d+)_(\d+)", tag)
    return tuple(map(int, found.groups())) if found else (sys.maxsize,)


def maturin(*arguments: str, target: str | None = None) -> None:
    """Run maturin, for another target with the compiler and the linker for it."""
    variables = dict(environment(target) if target else os.environ)
    variables["CARGO_ZIGBUILD_PYTHON_PATH"] = sys.executable  # the Python that has the package ziglang
    if subprocess.run([program("maturin"), *arguments], env=variables, check=False).returncode:
        sys.exit(f"maturin {arguments[0]} failed")


def program(name: str) -> str:
    """Return the path of a program in the environment of this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


if __name__ == "__main__":
    main()
