"""Reads a model's files into a `Checkpoint`: all that the engine needs to know before it maps the weights."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embergem import catalog, paths
from embergem.checkpoint import provenance
from embergem.checkpoint.checkpoint import WEIGHTS_FILE, Checkpoint, Location
from embergem.checkpoint.compiled import is_compiled, read_compiled
from embergem.checkpoint.files import read_bytes, read_object, read_optional_object
from embergem.checkpoint.gguf import find_gguf, read_gguf
from embergem.checkpoint.model2vec import is_model2vec, read_model2vec
from embergem.checkpoint.modules import read_modules
from embergem.errors import CorruptCheckpoint, UnsupportedModel, UnsupportedOption
from embergem.models.head import Dense, Module
from embergem.options import DEFAULTS, LoadOptions

INDEX_FILE = "model.safetensors.index.json"
PROMPTS_FILE = "config_sentence_transformers.json"
_TOKENIZER_BYTES = 512 << 20
"""Largest tokenizer.json that is read."""
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx")

log = logging.getLogger(__name__)


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
        checkpoint = replace(checkpoint, tokenizer=Path(options.tokenizer).expanduser())
    names = (location.id, *checkpoint.declared_names)
    return replace(checkpoint, hub_id=paths.hub_id(location.path), declared_names=names)


def _read(location: Location, options: LoadOptions) -> Checkpoint:
    root = location.path
    if is_compiled(root):
        return read_compiled(root)
    if file := find_gguf(root):
        return read_gguf(file, location, options)
    if is_model2vec(root):
        return read_model2vec(root)
    modules = read_modules(root)
    body = root / modules.transformer
    config = read_object(body / "config.json")
    tokenizer = body / "tokenizer.json"
    if not tokenizer.is_file():
        raise CorruptCheckpoint(
            f"{tokenizer} is missing. embergem reads the format of the tokenizers library. Load the tokenizer with "
            "transformers and save it, which writes this file."
        )
    settings = read_optional_object(body / "sentence_bert_config.json")
    _check_settings(settings, body / "sentence_bert_config.json", tokenizer)
    limit, declared = _limit(body, settings, config)
    return Checkpoint(
        config=config,
        head=modules.head,
        weights=(*(("", file) for file in _body_files(body)), *_dense_files(root, modules.head)),
        tokenizer=tokenizer,
        prompts=_prompts(root / PROMPTS_FILE),
        limit=limit,
        limit_declared=declared,
        declared_names=provenance.names_in_config(config),
    )


def _check_settings(settings: dict[str, Any], file: Path, tokenizer: Path) -> None:
    """Refuse settings in sentence_bert_config.json that would change the vectors."""
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise UnsupportedModel(f"{file}: transformer_task is {task!r}. embergem runs feature-extraction.")
    if settings.get("do_lower_case") is not True:
        return
    normalizer = read_object(tokenizer, limit=_TOKENIZER_BYTES).get("normalizer")
    if not _lowers_case(normalizer):
        raise UnsupportedModel(
            f"{file} sets do_lower_case, but the normalizer in {tokenizer.name} keeps capitals. Save the tokenizer "
            "with a Lowercase normalizer."
        )


def _lowers_case(normalizer: Any) -> bool:
    """Return whether a normalizer of tokenizer.json makes texts lower case."""
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "Sequence":
        return any(_lowers_case(part) for part in normalizer.get("normalizers", ()))
    return normalizer.get("type") == "Lowercase" or normalizer.get("lowercase") is True


def _body_files(body: Path) -> Sequence[Path]:
    if (body / WEIGHTS_FILE).is_file():
        return [body / WEIGHTS_FILE]
    if (body / INDEX_FILE).is_file():
        return shard_files(body / INDEX_FILE)
    raise _no_weights(body / WEIGHTS_FILE)


def shard_files(index: Path) -> list[Path]:
    """Return the weight files that model.safetensors.index.json names, in name order.

    Raises:
        CorruptCheckpoint: The index is damaged, names a file elsewhere, or a file is missing.
    """
    names = read_object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CorruptCheckpoint(
            f"{index}: weight_map should name a file for each tensor. Download or save the model again."
        )
    files = []
    for name in sorted(set(names.values())):
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise CorruptCheckpoint(
                f"{index}: weight_map names {name!r}. Only .safetensors files in the same directory are read."
            )
        if not (index.parent / name).is_file():
            raise CorruptCheckpoint(
                f"{index.parent / name} is missing, and {index.name} says that it holds weights. Download or save the "
                "model again."
            )
        files.append(index.parent / name)
    return files


def _add_dense_layers(checkpoint: Checkpoint, name: str, donor: Path) -> Checkpoint:
    """Insert the dense layers of the checkpoint at `donor` after the pooling of a checkpoint that lacks its own."""
    own = sum(isinstance(module, Dense) for module in checkpoint.head)
    if own or not catalog.has_dense(str(checkpoint.config.get("model_type"))):
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
    pooling, *rest = checkpoint.head
    weights = (*checkpoint.weights, *_dense_files(donor, layers))
    return replace(checkpoint, head=(pooling, *layers, *rest), weights=weights)


def _dense_files(root: Path, head: Sequence[Module]) -> list[tuple[str, Path]]:
    """Return pairs (tensor name prefix, weight file) of the dense layers of a head."""
    files: dict[str, Path] = {}
    for module in head:
        if isinstance(module, Dense):
            file = root / module.weights / WEIGHTS_FILE
            if not file.is_file():
                raise _no_weights(file)
            files[f"{module.weights}."] = file
    return list(files.items())


def _no_weights(file: Path) -> CorruptCheckpoint | UnsupportedModel:
    others = sorted(path.name for pattern in _OTHER_FORMATS for path in file.parent.glob(pattern))
    if others:
        return UnsupportedModel(
            f"{file} is missing, and {', '.join(others)} is not read: embergem reads weights from safetensors "
            "files, or from one GGUF file alone, because pickle files can run code. Save the model again with "
            "safe_serialization=True."
        )
    return CorruptCheckpoint(
        f"{file} is missing, so the model in this directory has no weights. Download or save the model again."
    )


def _prompts(file: Path) -> str | None:
    if not file.exists():
        return None
    read_object(file)  # which checks that it is a JSON object
    return read_bytes(file).decode("utf-8-sig")


def _limit(body: Path, settings: dict[str, Any], config: dict[str, Any]) -> tuple[int, bool]:
    """Return the largest number of tokens of one input, and whether the checkpoint declares it as such."""
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) else config
    positions = _length(text, "max_position_embeddings", body / "config.json")
    declared = _length(settings, "max_seq_length", body / "sentence_bert_config.json")
    if declared is None:
        tokenizer = body / "tokenizer_config.json"
        lengths = [_length(read_optional_object(tokenizer), "model_max_length", tokenizer), positions]
        known = [length for length in lengths if length is not None]
        if not known:
            raise CorruptCheckpoint(
                f"{body} does not say how many tokens the model reads. Add max_seq_length to "
                "sentence_bert_config.json, model_max_length to tokenizer_config.json or max_position_embeddings to "
                "config.json."
            )
        return min(known), False
    if positions is not None and declared > positions and not _has_rotary_positions(text):
        log.warning(
            "%s: max_seq_length is %d, but the model's position table ends at %d. The limit is %d tokens.",
            body / "sentence_bert_config.json",
            declared,
            positions,
            positions,
        )
        return positions, True
    return declared, True


def _has_rotary_positions(config: dict[str, Any]) -> bool:
    """Return whether positions are computed (rotary), so that no position table sets a limit."""
    return any("rope" in key or "rotary" in key for key in config)


def _length(config: dict[str, Any], key: str, file: Path) -> int | None:
    """Return a number of tokens; None if the key is absent or stands for no limit."""
    value = config.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # transformers writes "no limit" as 1e30
    if value is None or (isinstance(value, int) and value >= 2**31):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CorruptCheckpoint(f"{file}: {key} should be a whole number above 0, found {value!r}. Correct the file.")
    return value
