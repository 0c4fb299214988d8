"""Reads directories that Model2Vec saved: config.json, a table in model.safetensors, a tokenizer.

config.json says whether vectors are normalised and how many tokens are read. modules.json, which sentence-transformers
reads in the same directory, is not needed. If it is there, it must not contradict config.json.
"""

import struct
from pathlib import Path

from embergem.checkpoint.checkpoint import WEIGHTS_FILE, Checkpoint
from embergem.checkpoint.files import parse_json, read_bytes, read_object, shortened
from embergem.checkpoint.modules import MODULES_FILE, parse_modules
from embergem.errors import CorruptCheckpoint
from embergem.models.config import fields_of
from embergem.models.head import Module, Normalize, Pooling

MODEL_TYPE = "model2vec"
DEFAULT_LIMIT = 512
"""Tokens that Model2Vec reads if the config does not say."""

UNLIMITED = 32_768
"""Tokens of one input if the config sets no limit. A row of this length fits into memory many times over."""

_HEADER_BYTES = 100_000_000
"""Largest header that the safetensors format allows."""


def is_model2vec(root: Path) -> bool:
    """Return whether the directory holds a Model2Vec model."""
    file = root / "config.json"
    return file.is_file() and read_object(file).get("model_type") == MODEL_TYPE


def read_model2vec(root: Path) -> Checkpoint:
    """Read the checkpoint in the directory `root`.

    Raises:
        CorruptCheckpoint: A file is missing, damaged or contradicts another.
    """
    config, tokenizer, weights = read_object(root / "config.json"), root / "tokenizer.json", root / WEIGHTS_FILE
    fields = fields_of(config)
    for file in (tokenizer, weights):
        if not file.is_file():
            raise CorruptCheckpoint(
                f"{file} is missing, so the model in this directory is not complete. Download or save the model again."
            )
    shape = tensor_shapes(weights).get("embeddings")
    if shape is None or len(shape) != 2:
        raise CorruptCheckpoint(
            f"{weights} should hold a matrix called embeddings, found the shape {shape}. Save the model again with "
            "model2vec."
        )
    normalised = fields.get("normalize", bool, False)
    _refuse_contradiction(root / MODULES_FILE, normalised)
    unlimited = "max_length" in config and config["max_length"] is None
    head: tuple[Module, ...] = (Pooling("mean"), Normalize()) if normalised else (Pooling("mean"),)
    return Checkpoint(
        config={**config, "vocab_size": shape[0], "hidden_size": shape[1]},
        head=head,
        weights=(("", weights),),
        tokenizer=tokenizer,
        prompts=None,
        limit=UNLIMITED if unlimited else fields.get("max_length", int, DEFAULT_LIMIT),
    )


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a safetensors file, by name. Only the header is read.

    The native module checks the file in full when it maps the weights.

    Raises:
        CorruptCheckpoint: The file is not a safetensors file, or it is cut off.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _HEADER_BYTES + 1
        if length > min(_HEADER_BYTES, size - 8):
            raise CorruptCheckpoint(
                f"{path} is not a valid safetensors file: its header ends outside the file. Download or save the model "
                "again."
            )
        header = parse_json(file.read(length), path)
    if not isinstance(header, dict):
        raise CorruptCheckpoint(
            f"{path}: the header should be a JSON object, found {type(header).__name__}. Download or save the model "
            "again."
        )
    return {name: _shape(path, name, entry) for name, entry in header.items() if name != "__metadata__"}


def _shape(path: Path, name: str, entry: object) -> tuple[int, ...]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise CorruptCheckpoint(
            f"{path}: tensor {name} should have a shape of whole numbers, found {shortened(shape)}. Download or save "
            "the model again."
        )
    return tuple(shape)


def _refuse_contradiction(file: Path, normalised: bool) -> None:
    """Refuse a modules.json that normalises vectors where config.json does not."""
    if not file.exists():
        return
    kinds = [entry.kind for entry in parse_modules(read_bytes(file), file)]
    if "Normalize" in kinds and not normalised:
        raise CorruptCheckpoint(
            f"{file} normalises vectors, and config.json says that this model does not. Save the model again with "
            "model2vec."
        )
