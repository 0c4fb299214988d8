"""Reads a model's files into a `Checkpoint`: all that the engine needs to know before it maps the weights.

crates/checkpoint reads directories that sentence-transformers or Model2Vec saved, for the Rust SDK too.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path

from embergem import catalog, paths
from embergem.checkpoint import provenance
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.compiled import is_compiled, read_compiled
from embergem.checkpoint.gguf import find_gguf, read_gguf
from embergem.checkpoint.modules import read_modules, to_head
from embergem.errors import CorruptCheckpoint, UnsupportedModel, UnsupportedOption
from embergem.models import model_type_of
from embergem.models.head import Dense
from embergem.options import DEFAULTS, LoadOptions

log = logging.getLogger(__name__)

GGUF_ONLY = "norms_folded"
"""A field that the GGUF reader adds to the config of a Gemma: it says that norm weights contain the 1."""


def read_checkpoint(location: Location, options: LoadOptions = DEFAULTS) -> Checkpoint:
    """Read the checkpoint at `location`. Of `options`, `allow_missing_dense` and `tokenizer` apply.

    Raises:
        CorruptCheckpoint: A file is missing, damaged or contradicts another; the message names it.
        UnsupportedModel: A module, a setting or a file format that embergem does not have.
        UnsupportedOption: `location.dense_from` is given, and the model needs no dense layers or they do not fit it.
    """
    checkpoint = _read(location, options)
    if location.dense_from is not None:
        checkpoint = _add_dense_layers(checkpoint, location.id, location.dense_from)
    if options.tokenizer is not None:
        checkpoint = replace(checkpoint, tokenizer=_tokenizer_file(Path(options.tokenizer).expanduser()))
    names = (location.id, *checkpoint.declared_names)
    return replace(checkpoint, hub_id=paths.hub_id(location.path), declared_names=names)


def _tokenizer_file(path: Path) -> Path:
    """Return the path of a tokenizer that the caller named.

    Raises:
        UnsupportedOption: It is not a file.
    """
    if path.is_file():
        return path
    inside = path / "tokenizer.json"
    meant = f" Did you mean {str(inside)!r}?" if inside.is_file() else ""
    raise UnsupportedOption(
        f"tokenizer={str(path)!r} is not a file.{meant} Give the path of a tokenizer.json, or leave it out to use "
        "the model's own.",
        param="tokenizer",
    )


def _read(location: Location, options: LoadOptions) -> Checkpoint:
    root = location.path
    if is_compiled(root):
        return read_compiled(root)
    if file := find_gguf(root):
        return read_gguf(file, location, options)
    from embergem import _native  # imported here because `embergem --help` does without it

    found = json.loads(_native.read_checkpoint(root))
    for warning in found["warnings"]:
        log.warning("%s", warning)
    config = found["config"]
    if GGUF_ONLY in config:
        raise UnsupportedModel(f"config.json: {GGUF_ONLY} is a field that embergem makes for GGUF files. Remove it.")
    config |= found["added"]  # sizes of the table of a static model, which its config lacks
    return Checkpoint(
        config=config,
        head=to_head(found["head"]),
        weights=tuple((prefix, Path(path)) for prefix, path in found["weights"]),
        tokenizer=Path(found["tokenizer"]),
        prompts=found["prompts"],
        limit=found["limit"],
        limit_declared=found["limit_declared"],
        width=found.get("width"),
        remote_code=tuple(found.get("remote_code", ())),
        declared_names=provenance.names_in_config(config),
    )


def _add_dense_layers(checkpoint: Checkpoint, name: str, donor: Path) -> Checkpoint:
    """Insert the dense layers of the checkpoint at `donor` after the pooling of a checkpoint that lacks its own."""
    own = sum(isinstance(module, Dense) for module in checkpoint.head)
    if own or not catalog.has_dense(str(model_type_of(checkpoint.config))):
        why = f"has {own} dense layers of its own" if own else "is of a family without dense layers"
        raise UnsupportedOption(
            f"dense_from={str(donor)!r} has nothing to complete: {name} {why}. Leave dense_from out.",
            param="dense_from",
        )
    layers = tuple(module for module in read_modules(donor).head if isinstance(module, Dense))
    if not layers:
        raise CorruptCheckpoint(f"{donor} has no dense layers to take. Name the original model of {name}.")
    hidden = checkpoint.config.get("hidden_size")
    if layers[0].in_features != hidden:
        raise UnsupportedOption(
            f"The dense layers of {donor} take vectors of {layers[0].in_features} numbers, and {name} has {hidden}. "
            f"Name the original model of {name}.",
            param="dense_from",
        )
    from embergem import _native  # imported here because `embergem --help` does without it

    pooling, *rest = checkpoint.head
    weights = (*checkpoint.weights, *_native.dense_files(donor))
    return replace(checkpoint, head=(pooling, *layers, *rest), weights=weights)
