"""`Shipment`: a model on its way to the nodes of a cluster, as a compiled directory in Ray's object store."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from embergem import __version__
from embergem._native import BUILDS
from embergem.checkpoint.compiled import MANIFEST
from embergem.engine.engine import Engine
from embergem.export.compiler import compile_model
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.paths import cache_root

PIECE_BYTES = 1 << 26
"""Bytes of one object in Ray's store."""


class Identity(msgspec.Struct, frozen=True):
    """What determines the bits of a vector besides the token ids."""

    fingerprint: str
    dtype: str
    instruction_set: str
    embergem: str
    build: str

    @classmethod
    def of(cls, engine: Engine) -> "Identity":
        """Return the identity of a loaded model."""
        return cls(engine.fingerprint, engine.dtype, engine.instruction_set, __version__, " ".join(BUILDS))

    def difference(self, other: "Identity") -> str | None:
        """Describe the first difference; None if vectors of both are the same to the bit."""
        for name in self.__struct_fields__:
            here, there = getattr(self, name), getattr(other, name)
            if here != there:
                return f"{name} is {there}, and here it is {here}"
        return None


class Shipment:
    """The files of a compiled model in Ray's object store, and what a node must have after loading them.

    Args:
        files: For each file its path in the directory, and references to its pieces.
        digest: Hash of all files, which names the directory on a node.
        options: How a node loads the model; `model` is set there.
        expected: The identity of the model on the machine that sent it.
    """

    def __init__(
        self, files: Sequence[tuple[str, list[Any]]], digest: str, options: LoadOptions, expected: Identity
    ) -> None:
        self.files = files
        self.digest = digest
        self.options = options
        self.expected = expected

    @classmethod
    def pack(cls, options: LoadOptions, engine: Engine) -> "Shipment":
        """Compile the model of an engine, and put the files into Ray's object store."""
        import ray

        with tempfile.TemporaryDirectory(prefix="embergem-ray-") as scratch:
            directory = Path(options.model) if options.model is not None else None
            if directory is None or not (directory / MANIFEST).is_file():
                directory = Path(scratch) / "model"
                compile_model(options, directory)
            digest, files = hashlib.sha256(), []
            for path in sorted(path for path in directory.rglob("*") if path.is_file()):
                name = path.relative_to(directory).as_posix()
                digest.update(f"{name}\0{path.stat().st_size}\0".encode())
                pieces = []
                with path.open("rb") as file:
                    while data := file.read(PIECE_BYTES):
                        digest.update(data)
                        pieces.append(ray.put(data))
                files.append((name, pieces))
        plain = LoadOptions(dtype=engine.dtype, threads=options.threads)
        return cls(files, digest.hexdigest()[:32], plain, Identity.of(engine))

    def unpack(self) -> Path:
        """Write the files into the cache of this machine, unless they are there, and return the directory."""
        import ray

        home = cache_root() / "ray"
        directory = home / self.digest
        if directory.is_dir():
            return directory
        home.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{self.digest}-", dir=home))
        try:
            for name, pieces in self.files:
                path = scratch / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    for piece in pieces:
                        file.write(ray.get(piece))
            os.rename(scratch, directory)
        except OSError:
            if not directory.is_dir():  # else another process of this machine was faster
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return directory

    def load(self) -> Engine:
        """Load the model on this node."""
        return load(replace(self.options, model=str(self.unpack())))
