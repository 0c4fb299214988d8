"""modules.json: the chain of modules that sentence-transformers runs, in either of its two formats.

The first module is the transformer; the rest is the head (`embergem.models.head`). What a module declares is either
understood in full or refused: skipping one would give vectors that look right and are not.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from embergem.checkpoint.files import parse_json, read_bytes, shortened
from embergem.checkpoint.head_config import READERS
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.head import Module

NAME = "modules.json"

BODIES = ("Transformer", "StaticEmbedding")
"""Kinds of the first module."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One line of modules.json: what kind of module, and the directory (relative, "" for the root) of its files."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Chain:
    """The modules of a checkpoint: the transformer's directory, relative to the root, and the head after it."""

    transformer: str
    head: tuple[Module, ...]


def declared(data: bytes, where: str | Path) -> tuple[Declared, ...]:
    """Parse the text of modules.json; the first module returned is the body.

    Raises:
        CorruptCheckpoint: It is not a list of modules, or a path leaves the checkpoint's directory.
        UnsupportedModel: It names a module that embergem does not have, or an order that makes no embedding.
    """
    rows = parse_json(data, where)
    if not isinstance(rows, list) or not rows:
        raise CorruptCheckpoint(f"{where} should hold a list of modules, found {shortened(rows)}")
    chain = tuple(_declared_one(row, where) for row in rows)
    kinds = [module.kind for module in chain]
    if kinds[0] == "StaticEmbedding":
        if kinds not in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
            raise UnsupportedModel(
                f"{where} lists the modules {', '.join(kinds)}; after StaticEmbedding embergem runs Normalize"
            )
        return chain
    if kinds[0] != "Transformer" or kinds.count("Transformer") > 1 or kinds[1:2] != ["Pooling"]:
        raise UnsupportedModel(
            f"{where} lists the modules {', '.join(kinds)}; embergem runs one Transformer, then Pooling, then any of "
            "Dense and Normalize"
        )
    if kinds.count("Pooling") > 1:
        raise UnsupportedModel(f"{where} lists Pooling {kinds.count('Pooling')} times; embergem runs it once")
    return chain


def read_chain(root: Path) -> Chain:
    """Read modules.json of the checkpoint at `root`, and the config of every module of the head.

    Raises:
        CorruptCheckpoint: A file is missing, damaged or contradicts another.
        UnsupportedModel: A module or a setting that embergem does not have.
    """
    file = root / NAME
    if not file.exists():
        raise CorruptCheckpoint(
            f"{root} has no {NAME}, which says how token vectors become one embedding. embergem reads models as "
            "sentence-transformers saves them; save this one with sentence-transformers first"
        )
    chain = declared(read_bytes(file), file)
    if chain[0].kind == "StaticEmbedding":
        raise UnsupportedModel(
            f"{root} holds a StaticEmbedding without the config.json of Model2Vec, which says how its texts are read. "
            "Save it with model2vec (StaticModel.from_sentence_transformers and save_pretrained), which writes one"
        )
    head: list[Module] = []
    size: int | None = None
    for module in chain:
        directory = _inside(root, module.path, file)
        if module.kind != "Transformer":
            part, size = READERS[module.kind](directory, module.path, size)
            head.append(part)
    return Chain(transformer=chain[0].path, head=tuple(head))


def _declared_one(row: Any, where: str | Path) -> Declared:
    if not isinstance(row, dict) or not isinstance(row.get("type"), str) or not isinstance(row.get("path"), str):
        raise CorruptCheckpoint(f'{where}: each module needs a "type" and a "path", both text; found {shortened(row)}')
    package, _, kind = row["type"].partition(".")
    kind = kind.rpartition(".")[2]
    if package != "sentence_transformers" or kind not in (*BODIES, *READERS):
        raise UnsupportedModel(
            f"{where} names the module {row['type']!r}, which embergem does not have. It has sentence-transformers' "
            "Transformer, StaticEmbedding, Pooling, Dense and Normalize, and never runs code that comes with a model"
        )
    path = row["path"]
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or PureWindowsPath(path).drive:
        raise CorruptCheckpoint(f"{where}: the path {path!r} leaves the checkpoint's directory")
    return Declared(kind, "" if pure == PurePosixPath() else pure.as_posix())


def _inside(root: Path, path: str, where: Path) -> Path:
    """Return `root / path`, refusing a directory that a link has moved elsewhere.

    Only directories are looked at: in the hub's own cache every file is a link, and out of its snapshot's directory.
    """
    directory = root / path
    if not Path(os.path.realpath(directory)).is_relative_to(os.path.realpath(root)):
        raise CorruptCheckpoint(f"{where}: the path {path!r} is a link out of the checkpoint's directory")
    return directory
