"""From a directory to a `Checkpoint`: what the engine needs to know before it maps a single weight."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embergem import paths
from embergem.checkpoint import compiled, gguf, model2vec, provenance
from embergem.checkpoint.checkpoint import SINGLE, Checkpoint, Location
from embergem.checkpoint.files import read_bytes, read_object, read_object_if_there
from embergem.checkpoint.modules import read_chain
from embergem.errors import CorruptCheckpoint, UnsupportedModel, UnsupportedOption
from embergem.models import DENSE_LAYERS
from embergem.models.head import Dense, Module
from embergem.options import DEFAULTS, LoadOptions

INDEX = "model.safetensors.index.json"
PROMPTS = "config_sentence_transformers.json"
_TOKENIZER = 512 << 20  # most bytes of a tokenizer.json
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx")

log = logging.getLogger(__name__)


def read(location: Location, options: LoadOptions = DEFAULTS) -> Checkpoint:
    """Read the checkpoint at `location`; of `options` only `allow_missing_dense` applies.

    Raises:
        CorruptCheckpoint: A file is missing, damaged or contradicts another; the message names it.
        UnsupportedModel: A module, a setting or a file format that embergem does not have.
        UnsupportedOption: `location.dense_from` is given, and the model lacks no dense layers.
    """
    checkpoint = _read(location, options)
    if location.dense_from is not None:
        checkpoint = _with_dense(checkpoint, location.id, location.dense_from)
    return replace(
        checkpoint, hub_id=paths.hub_id(location.path), declared_names=(location.id, *checkpoint.declared_names)
    )


def _read(location: Location, options: LoadOptions) -> Checkpoint:
    root = location.path
    if compiled.recognised(root):
        return compiled.read(root)
    if file := gguf.recognised(root):
        return gguf.read(file, location, options)
    if model2vec.recognised(root):
        return model2vec.read(root)
    chain = read_chain(root)
    body = root / chain.transformer
    config = read_object(body / "config.json")
    tokenizer = body / "tokenizer.json"
    if not tokenizer.is_file():
        raise CorruptCheckpoint(
            f"{tokenizer} is missing. embergem reads the tokenizers library's format; transformers writes it when a "
            "tokenizer is loaded and saved again"
        )
    settings = read_object_if_there(body / "sentence_bert_config.json")
    _check_settings(settings, body / "sentence_bert_config.json", tokenizer)
    limit, declared = _limit(body, settings, config)
    return Checkpoint(
        config=config,
        head=chain.head,
        weights=(*(("", file) for file in _body_files(body)), *_dense_files(root, chain.head)),
        tokenizer=tokenizer,
        prompts=_prompts(root / PROMPTS),
        limit=limit,
        limit_declared=declared,
        declared_names=provenance.of_config(config),
    )


def _check_settings(settings: dict[str, Any], file: Path, tokenizer: Path) -> None:
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise UnsupportedModel(f"{file}: transformer_task is {task!r}; embergem runs feature-extraction")
    if settings.get("do_lower_case") is True and not _lowercases(
        read_object(tokenizer, most=_TOKENIZER).get("normalizer")
    ):
        raise UnsupportedModel(
            f"{file} sets do_lower_case, but the normalizer in {tokenizer.name} keeps capitals. Save the tokenizer "
            "with a Lowercase normalizer, so that the file says what is done"
        )


def _lowercases(normalizer: Any) -> bool:
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "Sequence":
        return any(_lowercases(part) for part in normalizer.get("normalizers", ()))
    return normalizer.get("type") == "Lowercase" or normalizer.get("lowercase") is True


def _body_files(body: Path) -> Sequence[Path]:
    if (body / SINGLE).is_file():
        return [body / SINGLE]
    if (body / INDEX).is_file():
        return shards(body / INDEX)
    raise _no_weights(body / SINGLE)


def shards(index: Path) -> list[Path]:
    """Return the files that model.safetensors.index.json names, in name order; each is there."""
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CorruptCheckpoint(f"{index}: weight_map should name a file for each tensor")
    files = []
    for name in sorted(set(names.values())):
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise CorruptCheckpoint(f"{index}: weight_map names {name!r}; only .safetensors files beside it are read")
        if not (index.parent / name).is_file():
            raise CorruptCheckpoint(f"{index.parent / name} is missing, and {index.name} says that it holds weights")
        files.append(index.parent / name)
    return files


def _with_dense(checkpoint: Checkpoint, name: str, donor: Path) -> Checkpoint:
    """Put the dense layers of the checkpoint at `donor` after the pooling of one that lacks those of its kind."""
    own = sum(isinstance(module, Dense) for module in checkpoint.head)
    if own or str(checkpoint.config.get("model_type")) not in DENSE_LAYERS:
        why = f"has {own} dense layers of its own" if own else "is of a kind that takes no dense layers from elsewhere"
        raise UnsupportedOption(f"dense_from={str(donor)!r} has nothing to fill: {name} {why}", param="dense_from")
    modules = tuple(module for module in read_chain(donor).head if isinstance(module, Dense))
    if not modules:
        raise CorruptCheckpoint(f"{donor} has no dense layers to take")
    if modules[0].in_features != checkpoint.config.get("hidden_size"):
        raise UnsupportedOption(
            f"the dense layers of {donor} take vectors of {modules[0].in_features} numbers, and {name} has "
            f"{checkpoint.config.get('hidden_size')}; name the model that it was made from",
            param="dense_from",
        )
    pooling, *rest = checkpoint.head
    weights = (*checkpoint.weights, *_dense_files(donor, modules))
    return replace(checkpoint, head=(pooling, *modules, *rest), weights=weights)


def _dense_files(root: Path, head: Sequence[Module]) -> list[tuple[str, Path]]:
    files: dict[str, Path] = {}
    for module in head:
        if isinstance(module, Dense):
            file = root / module.weights / SINGLE
            if not file.is_file():
                raise _no_weights(file)
            files[f"{module.weights}."] = file
    return list(files.items())


def _no_weights(file: Path) -> CorruptCheckpoint | UnsupportedModel:
    others = sorted(path.name for pattern in _OTHER_FORMATS for path in file.parent.glob(pattern))
    if others:
        return UnsupportedModel(
            f"{file} is missing, and {', '.join(others)} is not read: embergem takes weights as safetensors, or one "
            "GGUF file alone (pickle files can run code). Save the model again with safe_serialization=True"
        )
    return CorruptCheckpoint(f"{file} is missing; the model in this directory has no weights")


def _prompts(file: Path) -> str | None:
    if not file.exists():
        return None
    read_object(file)
    return read_bytes(file).decode("utf-8-sig")


def _limit(body: Path, settings: dict[str, Any], config: dict[str, Any]) -> tuple[int, bool]:
    """Return the limit, and whether it is declared or only what tokenizer and positions allow."""
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    positions = _length(text, "max_position_embeddings", body / "config.json")
    declared = _length(settings, "max_seq_length", body / "sentence_bert_config.json")
    if declared is None:
        tokenizer = body / "tokenizer_config.json"
        lengths = [_length(read_object_if_there(tokenizer), "model_max_length", tokenizer), positions]
        known = [length for length in lengths if length is not None]
        if not known:
            raise CorruptCheckpoint(
                f"{body} doesn't say how many tokens the model reads: max_seq_length in sentence_bert_config.json, "
                "model_max_length in tokenizer_config.json or max_position_embeddings in config.json"
            )
        return min(known), False
    if positions is not None and declared > positions and not _rotary(text):
        log.warning(
            "%s: max_seq_length is %d, but the model's position table ends at %d; the limit is %d tokens",
            body / "sentence_bert_config.json",
            declared,
            positions,
            positions,
        )
        return positions, True
    return declared, True


def _rotary(config: dict[str, Any]) -> bool:
    """Whether positions are computed (rotary) rather than looked up in a table that ends somewhere."""
    return any("rope" in key or "rotary" in key for key in config)


def _length(config: dict[str, Any], key: str, file: Path) -> int | None:
    value = config.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # transformers writes "no limit" as 1e30
    if value is None or (isinstance(value, int) and value >= 2**31):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CorruptCheckpoint(f"{file}: {key} should be a whole number above 0, found {value!r}")
    return value
