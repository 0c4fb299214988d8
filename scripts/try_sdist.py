"""Build a wheel from the source distribution in a directory without git, and try it.

python scripts/try_sdist.py dist

cargo stays in the PATH and git does not. The build uses the checkout's `target` directory for the crates that it does
not change, unless CARGO_TARGET_DIR names another one.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from try_wheel import ROOT, clean_environment, try_vector


def main() -> None:
    """Build and try the only source distribution in the directory of the first argument."""
    [source] = Path(sys.argv[1]).glob("*.tar.gz")
    with tempfile.TemporaryDirectory(prefix="embergem-sdist-") as name, clean_environment() as environment:
        tools = Path(name) / "tools"
        link_tools(tools)
        variables = os.environ | {
            "PATH": str(tools),
            "CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR") or str(ROOT / "target"),
        }
        command = [str(environment.python), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", name]
        subprocess.run([*command, str(source.resolve())], check=True, cwd=name, env=variables)
        [wheel] = Path(name).glob("*.whl")
        environment.install(str(wheel))
        difference = try_vector(environment)
    print(f"{source.name}: {source.stat().st_size / 1e6:.1f} MB, builds without git")
    print(f"  a vector of its wheel differs from the stored one by {difference:.1e}")


def link_tools(directory: Path) -> None:
    """Fill a directory with links to every program in the PATH except git."""
    directory.mkdir()
    for place in map(Path, os.environ["PATH"].split(os.pathsep)):
        for program in place.iterdir() if place.is_dir() else ():
            link = directory / program.name
            if program.stem != "git" and not link.exists() and os.access(program, os.X_OK):
                link.symlink_to(program)


if __name__ == "__main__":
    main()
