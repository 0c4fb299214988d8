"""Try the aarch64 wheel on this machine: CPython for 64-bit ARM from Debian, run by qemu's user mode.

python scripts/try_arm_wheel.py dist

It installs the wheel and its dependencies for that Python, embeds a text with a tiny checkpoint, and compares the
vector with the one of this machine's wheel and with the stored one. Nothing is installed on this machine: Debian's
packages are unpacked into a directory, `~/.cache/embergem-assets/arm64` or $EMBERGEM_ASSETS/arm64.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from try_wheel import COMPARE, GOLDEN, VECTOR, clean_environment, fitting

SYSTEM = Path(os.environ.get("EMBERGEM_ASSETS") or Path.home() / ".cache" / "embergem-assets") / "arm64"
PACKAGES = ("python3", "libstdc++6")
"""Debian's packages for arm64: the wheel of NumPy needs the second one."""
NEEDED = {"qemu-aarch64-static": "qemu-user-static", "apt-get": "apt", "dpkg-deb": "dpkg"}


def main() -> None:
    """Try the only aarch64 wheel in the directory of the first argument."""
    directory = Path(sys.argv[1])
    lacking = [f"{tool} (Debian package {package})" for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if lacking:
        sys.exit("Install what is missing first:\n  " + "\n  ".join(lacking))
    [wheel] = directory.glob("*_aarch64.whl")
    python = system() / "usr" / "bin" / "python3"
    with tempfile.TemporaryDirectory(prefix="embergem-try-") as name:
        site = Path(name) / "site"
        version = emulated(python, site, "-c", "import platform; print(platform.machine(), platform.python_version())")
        machine, _, version = version.strip().partition(" ")
        install(wheel, site, version)
        vector = emulated(python, site, "-c", VECTOR, str(GOLDEN))
        difference = float(emulated(python, site, "-c", COMPARE, str(GOLDEN), vector))
    with clean_environment() as environment:
        environment.install(str(fitting(directory, environment).resolve()))
        own = json.loads(environment.run(environment.python, "-c", VECTOR, environment.model))
    apart = max(abs(one - other) for one, other in zip(json.loads(vector), own, strict=True))
    print(f"{wheel.name} on {machine} (qemu), CPython {version}: a vector of {len(own)} numbers differs")
    print(f"  by {apart:.1e} from the one of this machine and by {difference:.1e} from the stored one")
    if not max(apart, difference) <= 1e-6:
        sys.exit("that is more than 1e-6")


def system() -> Path:
    """Return a directory with Debian's CPython for arm64 and its libraries, which are fetched at the first call."""
    root = SYSTEM / "root"
    if not root.exists():
        archives = fetch(SYSTEM / "apt")
        unpacked = SYSTEM / "unpacking"
        shutil.rmtree(unpacked, ignore_errors=True)
        for archive in archives:
            subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
        unpacked.rename(root)
    return root


def fetch(directory: Path) -> Sequence[Path]:
    """Download the packages of python3 for arm64 with lists and a cache of their own, so that no root is needed."""
    for needed in ("lists/partial", "cache/archives/partial"):
        (directory / needed).mkdir(parents=True, exist_ok=True)
    (directory / "status").write_text("")  # nothing is installed, so apt fetches all dependencies
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",  # the lists are in a directory that the user of apt may not read
        "Debug::NoLocking": "1",
        "Dir::Cache": directory / "cache",
        "Dir::State::lists": directory / "lists",
        "Dir::State::status": directory / "status",
    }
    apt = ["apt-get", "-qq", "-y", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "--download-only", "--no-install-recommends", "install", *PACKAGES], check=True)
    return sorted((directory / "cache" / "archives").glob("*.deb"))


def install(wheel: Path, site: Path, version: str) -> None:
    """Install the wheel and its dependencies for an aarch64 CPython of `version` into the directory `site`."""
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 29)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--target", str(site)]
    python = ["--python-version", version, "--implementation", "cp", "--only-binary", ":all:"]
    subprocess.run([*command, *python, *platforms, str(wheel.resolve())], check=True)


def emulated(python: Path, site: Path, *arguments: str) -> str:
    """Run Python under qemu with the packages of `site`, and return what it prints."""
    root = python.parents[2]
    variables = {
        "HOME": str(site.parent),
        "PATH": os.environ["PATH"],
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": str(site),
    }
    command = ["qemu-aarch64-static", "-L", str(root), str(python), *arguments]
    return subprocess.run(command, check=True, env=variables, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
