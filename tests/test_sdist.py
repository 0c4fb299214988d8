"""The source distribution has every file of the package, and a workspace that cargo accepts without the checkout."""

import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from try_wheel import package_files  # noqa: E402 - the scripts are no package
from wheels import glibc  # noqa: E402


def test_the_sdist_is_complete_and_its_lock_fits(tmp_path):
    maturin = Path(sysconfig.get_path("scripts")) / "maturin"
    made = subprocess.run([maturin, "sdist", "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    [unpacked] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert {name for name in package_files() if not (unpacked / "src" / name).is_file()} == set()
    command = ["cargo", "metadata", "--offline", "--format-version", "1"]
    accepted = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)
    assert accepted.returncode == 0, accepted.stderr
    # The lock lacks only the packages of the crates that stay behind; no version changes.
    assert locked(unpacked / "Cargo.lock") <= locked(ROOT / "Cargo.lock")


def locked(file):
    """The names and versions in a Cargo.lock."""
    return {(package["name"], package["version"]) for package in tomllib.loads(file.read_text("utf-8"))["package"]}


def test_a_tag_that_needs_a_later_glibc_is_noticed():
    assert glibc("manylinux_2_17_x86_64") < glibc("manylinux_2_28") < glibc("manylinux_2_31_aarch64")
    assert glibc("linux_x86_64") > glibc("manylinux_2_99_x86_64")
