"""Directories as Model2Vec saves them: config.json, a table in model.safetensors, a tokenizer.

Its config.json says whether vectors are normalised and how many tokens are read. modules.json, which sentence-
transformers reads the same directory by, is not needed; where it is there it must not say something else.
"""

from pathlib import Path

from embergem.checkpoint.checkpoint import SINGLE, Checkpoint
from embergem.checkpoint.files import read_bytes, read_object
from embergem.checkpoint.header import shapes
from embergem.checkpoint.modules import NAME as MODULES
from embergem.checkpoint.modules import declared
from embergem.errors import CorruptCheckpoint
from embergem.models.config import fields_of
from embergem.models.head import Module, Normalize, Pooling

MODEL_TYPE = "model2vec"
LIMIT = 512
"""Tokens that Model2Vec reads where the config doesn't say."""

UNLIMITED = 32_768
"""Tokens of one input where the config sets no limit: a row that long still fits into memory many times over."""


def recognised(root: Path) -> bool:
    """Whether the directory holds a Model2Vec model."""
    file = root / "config.json"
    return file.is_file() and read_object(file).get("model_type") == MODEL_TYPE


def read(root: Path) -> Checkpoint:
    """Read the checkpoint at `root`.

    Raises:
        CorruptCheckpoint: A file is missing, damaged or contradicts another.
    """
    config, tokenizer, weights = read_object(root / "config.json"), root / "tokenizer.json", root / SINGLE
    fields = fields_of(config)
    for file in (tokenizer, weights):
        if not file.is_file():
            raise CorruptCheckpoint(f"{file} is missing; the model in this directory is not complete")
    shape = shapes(weights).get("embeddings")
    if shape is None or len(shape) != 2:
        raise CorruptCheckpoint(f"{weights} should hold a table called embeddings; found it to be {shape}")
    normalised = fields.get("normalize", bool, False)
    _agree(root / MODULES, normalised)
    unlimited = "max_length" in config and config["max_length"] is None
    head: tuple[Module, ...] = (Pooling("mean"), Normalize()) if normalised else (Pooling("mean"),)
    return Checkpoint(
        config={**config, "vocab_size": shape[0], "hidden_size": shape[1]},
        head=head,
        weights=(("", weights),),
        tokenizer=tokenizer,
        prompts=None,
        limit=UNLIMITED if unlimited else fields.get("max_length", int, LIMIT),
    )


def _agree(file: Path, normalised: bool) -> None:
    if not file.exists():
        return
    kinds = [module.kind for module in declared(read_bytes(file), file)]
    if "Normalize" in kinds and not normalised:
        raise CorruptCheckpoint(f"{file} normalises vectors, and config.json says that this model doesn't")
