"""Golden checkpoints: their files, tensors and expected vectors.

A directory with model files and `expected.npz` is a golden of the family that its config.json names; the tests of
`TINY` run for it. The variable `MORE_TEST_FAMILIES` names a directory with further families (`*.py`) and, in its
folder `goldens`, further goldens.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from embergem import models
from embergem._native import Model
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.models import Architecture, architecture
from embergem.models.head import Module
from embergem.ops import WeightLookup
from embergem.ops.reference import Batch, Reference
from embergem.program.build import build

DATA = Path(__file__).parent / "data" / "goldens"
ROOTS = [DATA]
if more := os.environ.get("MORE_TEST_FAMILIES"):
    models.__path__.append(more)
    ROOTS.append(Path(more) / "goldens")

TINY = {path.parent.name: path.parent for root in ROOTS for path in sorted(root.glob("*/modules.json"))}
"""The directory of each golden that has its model files beside it. The others are vectors of models kept elsewhere."""

_EXPECTED = ("expected.npz", "inputs.json")
"""Files beside a golden's model: its inputs and the expected vectors."""


def copy_model(name, directory):
    """Copy the model files of a golden, without inputs and expected vectors, and return the directory."""
    return shutil.copytree(TINY[name], directory, ignore=shutil.ignore_patterns(*_EXPECTED))


def files_of(directory):
    """Return the model files of a golden, as {path: bytes}."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name not in _EXPECTED]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def edit(file, **changes):
    """Change keys of a JSON file; None removes a key."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def pack(rows):
    """Return rows of ids as one packed batch."""
    ids = np.concatenate([np.asarray(row, dtype=np.uint32) for row in rows])
    return ids, np.cumsum([0, *map(len, rows)]).astype(np.uint32)


@dataclass(frozen=True)
class Golden:
    """A checkpoint with the vectors that the published library gives for `ids`."""

    architecture: Architecture
    head: tuple[Module, ...]
    files: list[tuple[str, str]]
    ids: list[list[int]]
    texts: list[str]
    vectors: np.ndarray

    def native(self, **options):
        """Load the model with the native executor."""
        return Model.load(build(self.architecture, self.head).to_json(), self.files, **options)

    def tensors(self):
        """Return the tensors by their names in the files; those of dense layers begin with their directory."""
        return {prefix + name: value for prefix, path in self.files for name, value in load_file(path).items()}

    def weights(self):
        """Return the tensors for the reference, without the prefixes that the executor ignores."""
        tensors = self.tensors()

        def lookup(name, shape):
            prefixes = ("", "language_model.", *self.architecture.family.prefixes)
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            names = [prefix + spelled for spelled in (name, old) for prefix in prefixes]
            found = next(tensors[spelled] for spelled in names if spelled in tensors)
            assert found.shape == shape, (name, found.shape, shape)
            return found

        return WeightLookup(lookup)

    def reference(self, rows):
        """Return the vectors of rows of ids by the NumPy specification."""
        return self.architecture.vectors(self.head, Reference(), self.weights(), Batch(*pack(rows)))


def golden(name: str, directory: Path | None = None) -> Golden:
    """Load the golden `name`, with the model files in `directory` if they are not beside the vectors."""
    stored = TINY.get(name, DATA / name)
    checkpoint = read_checkpoint(Location(id=name, path=directory or stored))
    inputs = json.loads((stored / "inputs.json").read_text())
    return Golden(
        architecture=architecture(checkpoint.config),
        head=checkpoint.head,
        files=[(prefix, str(path)) for prefix, path in checkpoint.weights],
        ids=inputs["ids"],
        texts=inputs.get("texts", []),
        vectors=np.load(stored / "expected.npz")["vectors"],
    )
