"""Install the wheel for this machine into a new virtual environment as a user would, and try it.

python scripts/try_wheel.py dist            # the wheel alone, then with its extra `server`
python scripts/try_wheel.py dist --sizes    # prints what each dependency takes, for docs/install.md

The environment is in another directory, has empty caches, and finds no compiler. The checks: one vector equals the
stored one, and `embergem serve` answers a request on a free port and sends the playground.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "data" / "goldens" / "bert_mean"
DOWNLOAD_LIMIT_MB = 60
"""Most that is downloaded for embergem and its dependencies without extras."""

VECTOR = """
import json, sys
from embergem import Embedder
with Embedder(sys.argv[1]) as embedder:
    print(json.dumps(embedder.embed(["What is graphene?"])[0].tolist()))
"""

COMPARE = """
import json, sys
from pathlib import Path
import numpy as np
golden = Path(sys.argv[1])
row = json.loads((golden / "inputs.json").read_text("utf-8"))["texts"].index("What is graphene?")
stored = np.load(golden / "expected.npz")["vectors"][row]
print(float(np.abs(np.array(json.loads(sys.argv[2])) - stored).max()))
"""
"""Prints the largest difference of a vector to the one that the published library computed."""


@dataclass(frozen=True)
class Installed:
    """A virtual environment that has the wheel, with the model to try it with."""

    directory: Path
    programs: Path
    python: Path
    model: Path
    variables: Mapping[str, str]

    def run(self, *command: str | Path) -> str:
        """Run a command in the environment and return what it prints."""
        return subprocess.run(
            command, check=True, cwd=self.directory, env=self.variables, stdout=subprocess.PIPE, text=True
        ).stdout

    def install(self, *requirements: str) -> None:
        """Install packages, as wheels only."""
        self.run(self.python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *requirements)


@contextmanager
def clean_environment() -> Iterator[Installed]:
    """Make a virtual environment in a temporary directory, with empty caches, and without any other program."""
    with tempfile.TemporaryDirectory(prefix="embergem-try-") as name:
        directory = Path(name)
        builder = venv.EnvBuilder(with_pip=True)
        context = builder.ensure_directories(directory / "venv")
        builder.create(context.env_dir)
        home = directory / "home"
        home.mkdir()
        model = directory / "model"
        shutil.copytree(GOLDEN, model)
        dropped = ("EMBERGEM_", "HF_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | {
            "HOME": str(home),
            "USERPROFILE": str(home),
            "LOCALAPPDATA": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PATH": str(context.bin_path),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        yield Installed(directory, Path(context.bin_path), Path(context.env_exe), model, variables)


def main() -> None:
    """Try the only wheel in a directory that fits this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--sizes", action="store_true", help="print what each dependency takes")
    arguments = parser.parse_args()
    with clean_environment() as environment:
        wheel = fitting(arguments.directory, environment)
        packages = download(wheel, environment)
        environment.install("--no-index", "--find-links", str(packages), str(wheel.resolve()))
        sizes = package_sizes(packages, environment.directory)
        if arguments.sizes:
            print("| package | download, MB | installed, MB |\n| --- | --- | --- |")
            print("\n".join(f"| {name} | {packed:.1f} | {unpacked:.1f} |" for name, packed, unpacked in sizes))
        downloaded = sum(packed for _, packed, _ in sizes)
        taken = sum(unpacked for _, _, unpacked in sizes)
        if downloaded > DOWNLOAD_LIMIT_MB:
            sys.exit(f"embergem without extras is {downloaded:.1f} MB to download, more than {DOWNLOAD_LIMIT_MB} MB")
        difference = try_vector(environment)
        environment.install(f"{wheel.resolve()}[server]")
        served = try_server(environment)
    print(
        f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB; with its dependencies {downloaded:.1f} MB to download and"
    )
    print(f"  {taken:.1f} MB installed, without pip")
    print(f"  a vector differs from the stored one by {difference:.1e}; the server answered with {served} numbers")


def fitting(directory: Path, environment: Installed) -> Path:
    """Return the wheel in `directory` that pip chooses on this machine, which must be for all CPython versions."""
    chosen = environment.directory / "chosen"
    find = ("--no-index", "--find-links", str(directory.resolve()), "--no-deps", "--dest", str(chosen))
    environment.run(environment.python, "-m", "pip", "download", "--quiet", *find, "embergem")
    [wheel] = chosen.glob("*.whl")
    if "-abi3-" not in wheel.name:
        sys.exit(f"{wheel.name} is not an abi3 wheel")
    if missing := package_files() - set(zipfile.ZipFile(wheel).namelist()):
        sys.exit(f"{wheel.name} lacks files of the package: {', '.join(sorted(missing))}")
    return directory / wheel.name


def package_files() -> set[str]:
    """Return the names that the files of the checkout's package have in a wheel, without the native module."""
    source = ROOT / "src"
    files = (file for file in (source / "embergem").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(source).as_posix() for file in files if file.suffix not in (".so", ".pyd")}


def download(wheel: Path, environment: Installed) -> Path:
    """Download the dependencies of the wheel as a user's pip would; return the directory, which has the wheel too."""
    packages = environment.directory / "packages"
    options = ("--quiet", "--only-binary", ":all:", "--dest", str(packages))
    environment.run(environment.python, "-m", "pip", "download", *options, str(wheel.resolve()))
    return packages


def package_sizes(packages: Path, environment: Path) -> list[tuple[str, float, float]]:
    """Return name, MB of the wheel and MB installed of each package of `packages`, largest first."""
    [site] = (path.parent for path in environment.rglob("embergem") if path.parent.name == "site-packages")
    installed = {canonical(found.name): space(found) / 1e6 for found in distributions(path=[str(site)])}
    wheels = {canonical(file.name.split("-")[0]): file.stat().st_size / 1e6 for file in packages.glob("*.whl")}
    sizes = [(name, size, installed[name]) for name, size in wheels.items()]
    return sorted(sizes, key=lambda size: -size[1])


def canonical(name: str) -> str:
    """Return the one spelling of a package's name."""
    return re.sub("[-_.]+", "-", name).lower()


def space(found: Distribution) -> int:
    """Return the bytes of all files that a package has installed, with its compiled modules."""
    paths = (Path(str(file.locate())) for file in found.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def try_vector(environment: Installed) -> float:
    """Embed a text; return the largest difference to the stored vector, which may be 1e-6 at most."""
    environment.run(environment.programs / "embergem", "--version")
    return compare(environment, environment.run(environment.python, "-c", VECTOR, environment.model))


def compare(environment: Installed, vector: str) -> float:
    """Return the largest difference of a vector, as JSON, to the stored one."""
    difference = float(environment.run(environment.python, "-c", COMPARE, environment.model, vector))
    if not difference <= 1e-6:
        sys.exit(f"the vector differs from the stored one by {difference}")
    return difference


def try_server(environment: Installed) -> int:
    """Send a request to `embergem serve`; return how many numbers the vector of its answer has."""
    program = str(environment.programs / "embergem")
    command = [program, "serve", "--port", "0", "--model", str(environment.model)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=environment.directory, env=environment.variables, stdout=pipe, text=True
    ) as server:
        try:
            assert server.stdout is not None
            found = next((line for line in map(READY.search, server.stdout) if line), None)
            if found is None:
                sys.exit("the server did not start")
            body = json.dumps({"model": "default", "input": "What is graphene?"}).encode()
            request = urllib.request.Request(f"{found[1]}/v1/embeddings", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                vector = json.load(answer)["data"][0]["embedding"]
            try_playground(found[1])
        finally:
            server.terminate()
            server.wait(60)
    compare(environment, json.dumps(vector))
    return len(vector)


def try_playground(server: str) -> None:
    """Fetch the page of the playground, and the scripts and styles that it names; one that is missing is an error."""
    page = urllib.request.Request(f"{server}/", headers={"Accept": "text/html"})
    with urllib.request.urlopen(page, timeout=60) as answer:
        assets = re.findall(r'(?:href|src)="\./(ui/[^"]+)"', answer.read().decode())
    if not assets:
        sys.exit("the page of the playground names no scripts")
    for asset in assets:
        urllib.request.urlopen(f"{server}/{asset}", timeout=60).close()


READY = re.compile(r"serving on (https?://[^/]+)/v1")


if __name__ == "__main__":
    main()
