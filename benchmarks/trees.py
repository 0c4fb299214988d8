"""Make another tree, of a commit or with another native module, so that it and this one can be measured in turns."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUST = ("Cargo.toml", "Cargo.lock", "crates")


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Check `commit` out into a temporary worktree that has a native module."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            equal = subprocess.run(["git", "diff", "--quiet", commit, "--", *RUST], cwd=ROOT).returncode == 0
            own = next((ROOT / "src" / "embergem").glob("_native*.so"))
            shutil.copy(own if equal else built(tree), tree / "src" / "embergem" / "_native.abi3.so")
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


@contextmanager
def with_module(module: Path) -> Iterator[Path]:
    """Copy the Python package of this tree into a temporary tree with another native module."""
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "src" / "embergem"
        shutil.copytree(ROOT / "src" / "embergem", package, ignore=shutil.ignore_patterns("_native*.so", "__pycache__"))
        shutil.copy(module, package / "_native.abi3.so")
        yield Path(directory)


def built(tree: Path) -> Path:
    """Build the native module of a worktree, unless an earlier run built it for the same commit."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tree, check=True, capture_output=True, text=True).stdout
    target = ROOT / "target" / "commits"
    module = target / f"{commit.strip()}.so"
    if not module.exists():
        print(f"the Rust sources differ; building the native module of {commit.strip()}", file=sys.stderr, flush=True)
        build = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", target, "-p", "embergem-python",
                 "--features", "pyo3/extension-module"]  # fmt: skip
        subprocess.run(build, cwd=tree, check=True)
        shutil.copy(target / "release" / "lib_native.so", module)
    return module
