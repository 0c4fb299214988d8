"""modules.json, the chain of modules that sentence-transformers runs: its entries, and the head that it declares.

crates/checkpoint reads the files, for the Rust SDK too. The functions import the native module when they are called,
because `embergem --help` does without it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embergem.checkpoint.files import read_object
from embergem.models.head import Dense, Module, Normalize, Pooling

MODULES_FILE = "modules.json"

BODY_KINDS = ("Transformer", "StaticEmbedding")
"""Kinds of the first module."""

MODEL2VEC = "model2vec"
"""`model_type` in the config.json of a directory that Model2Vec saved. It needs no modules.json."""


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One entry of modules.json: the kind of the module, and the directory of its files, relative ("" is the root)."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class ModuleChain:
    """The modules of a checkpoint: the directory of the transformer, relative to the root, and the head."""

    transformer: str
    head: tuple[Module, ...]


def parse_modules(data: bytes, where: str | Path) -> tuple[ModuleEntry, ...]:
    """Parse the text of modules.json. The first entry is the body. `where` names the origin of the text in errors.

    Raises:
        CorruptCheckpoint: The text is not a list of modules, or a path leaves the checkpoint's directory.
        UnsupportedModel: The text names a module that embergem does not have, or an order that makes no embedding.
    """
    from embergem import _native

    return tuple(ModuleEntry(kind, path) for kind, path in _native.parse_modules(data, str(where)))


def read_modules(root: Path) -> ModuleChain:
    """Read modules.json of the checkpoint at `root`, and the config of every module of the head.

    Raises:
        CorruptCheckpoint: A file is missing, damaged or contradicts another.
        UnsupportedModel: A module or a setting that embergem does not have.
    """
    from embergem import _native

    transformer, head = _native.read_modules(root)
    return ModuleChain(transformer, to_head(json.loads(head)))


def to_head(modules: Iterable[Mapping[str, Any]]) -> tuple[Module, ...]:
    """Return the head that native code describes, one object a module.

    >>> to_head([{"module": "Pooling", "mode": "mean"}, {"module": "Normalize"}])
    (Pooling(mode='mean'), Normalize())
    """
    kinds = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}
    return tuple(kinds[fields["module"]](**{k: v for k, v in fields.items() if k != "module"}) for fields in modules)


def is_model2vec(root: Path) -> bool:
    """Return whether Model2Vec saved the directory."""
    file = root / "config.json"
    return file.is_file() and read_object(file).get("model_type") == MODEL2VEC
