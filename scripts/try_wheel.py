"""Install the wheel in a directory into a new virtual environment, and embed a text with it.

python scripts/try_wheel.py dist
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path


def main() -> None:
    """Install the wheel, run `embergem --version`, and embed one text with a tiny checkpoint."""
    [wheel] = Path(sys.argv[1]).glob("*.whl")
    if "abi3" not in wheel.name:
        sys.exit(f"{wheel.name} is not an abi3 wheel")
    names = set(zipfile.ZipFile(wheel).namelist())
    ui = Path(__file__).parent.parent / "src/embergem/server/ui"
    if missing := {f"embergem/server/ui/{file.name}" for file in ui.iterdir()} - names:
        sys.exit(f"{wheel.name} lacks files of the playground: {', '.join(sorted(missing))}")
    model = Path(__file__).parent.parent / "tests/data/goldens/bert_mean"
    with tempfile.TemporaryDirectory() as directory:
        venv.create(directory, with_pip=True)
        python = Path(directory) / "bin" / "python"
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel.resolve())]
        subprocess.run(install, check=True, cwd=directory)
        subprocess.run([python.with_name("embergem"), "--version"], check=True, cwd=directory)
        embergem = str(python.with_name("embergem"))
        command = [embergem, "embed", "--model", str(model.resolve()), "--format", "json", "a text"]
        answer = subprocess.run(command, check=True, cwd=directory, capture_output=True, text=True).stdout
        if '"embedding"' not in answer:
            sys.exit(f"the output has no vector: {answer!r}")
    print(f"{wheel.name} ({wheel.stat().st_size / 2**20:.1f} MB) installs and embeds")


if __name__ == "__main__":
    main()
