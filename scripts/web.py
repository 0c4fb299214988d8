"""Build the playground from `web/` into the Python package, or check that the files in the package are that build.

    python scripts/web.py [--check]

The packages come from the lock, and the same sources give the same bytes. `web/built.json` has the digests of the
sources and of the built files, so that `make test` notices a change without a build and needs no node for it. `--check`
builds into a scratch directory, compares the bytes, and runs the unit tests. Needs node and npm.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WEB = ROOT / "web"
BUILT = WEB / "built.json"
GOAL = ROOT / "src" / "embergem" / "server" / "ui"


def sources() -> list[Path]:
    """Return the files that determine the build."""
    return sorted(
        path for path in (*WEB.glob("*.*"), *(WEB / "src").rglob("*")) if path.is_file() and path.suffix != ".md"
        and path != BUILT and not path.name.startswith(".") and "test" not in path.name
    )  # fmt: skip


def digests(goal: Path) -> dict[str, str]:
    """Return the digest of each file in `goal`, and of all sources together as `sources`."""
    whole = hashlib.sha256()
    for path in sources():
        whole.update(f"{path.relative_to(WEB).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(goal.iterdir())}
    return {"sources": whole.hexdigest(), **files}


def npm(*arguments: str, goal: Path | None = None) -> None:
    """Run npm in `web/`; a failure ends this program."""
    environment = {**os.environ, "EMBERGEM_UI": str(goal)} if goal else None
    if subprocess.run(["npm", *arguments], cwd=WEB, env=environment).returncode != 0:
        sys.exit(f"npm {' '.join(arguments)} failed in {WEB}; its output is above.")


def install() -> None:
    """Install the packages of the lock, unless they are installed already."""
    if shutil.which("npm") is None:
        sys.exit("The playground is built with node and npm: apt-get install nodejs npm (node 20.19 or later).")
    lock, mark = WEB / "package-lock.json", WEB / "node_modules" / "installed.json"
    if not mark.exists() or mark.read_text() != lock.read_text():
        npm("ci", "--silent", "--no-audit", "--no-fund")
        shutil.copy(lock, mark)


def build(goal: Path) -> None:
    """Check the types and build into `goal`."""
    npm("run", "--silent", "build", "--", "--logLevel", "warn", goal=goal)


def check() -> None:
    """Build again and compare; run the unit tests."""
    with tempfile.TemporaryDirectory() as directory:
        goal = Path(directory) / "ui"
        build(goal)
        new, old = digests(goal), digests(GOAL)
        if different := sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name)):
            sys.exit(f"{', '.join(different)} in {GOAL} differ from a new build. Run `make web`, and commit the files.")
        if new != json.loads(BUILT.read_text()):
            sys.exit(f"{BUILT} is not that of this build. Run `make web`, and commit the file.")
    npm("test", "--silent")
    print(f"{GOAL} is the build of {WEB}.")


def main() -> None:
    """Build or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    install()
    if given.check:
        check()
        return
    build(GOAL)
    BUILT.write_text(json.dumps(digests(GOAL), indent=2) + "\n")


if __name__ == "__main__":
    main()
