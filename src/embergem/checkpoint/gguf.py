"""GGUF files: one file with weights and settings, as llama.cpp and Ollama use them.

The settings of config.json are made from the metadata, with the facts that the format leaves to the architecture: that
EmbeddingGemma looks both ways, that every sixth layer sees the whole row, that norm weights already have their 1 added.
Tensors get the names of embergem's model files in the native reader.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embergem.checkpoint import provenance
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.files import shortened
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.head import Dense, Module, Normalize, Pooling
from embergem.ops import Pooling as PoolingMode
from embergem.options import DEFAULTS, LoadOptions

SUFFIX = ".gguf"
_POOLING: dict[int, PoolingMode] = {1: "mean", 2: "cls", 3: "last"}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class File:
    """A GGUF file's metadata, and the shapes of its tensors."""

    path: Path
    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def open(cls, path: Path) -> "File":
        """Map the file and read its head; see `_native.Tensors` for what it raises."""
        from embergem._native import Tensors  # here, so that finding a model needs no native module

        tensors = Tensors([("", str(path))])
        return cls(path, json.loads(tensors.metadata), {name: tuple(shape) for name, shape, _ in tensors.list})

    @property
    def architecture(self) -> str:
        """What the file calls its architecture."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, kind: type[Any], default: Any = None) -> Any:
        """Return the value of `<architecture>.<key>`; without a default it must be there."""
        name = f"{self.architecture}.{key}"
        value = self.metadata.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (kind is not bool and value < 0):
            raise CorruptCheckpoint(f"{self.path}: {name} should be a {kind.__name__}, found {shortened(value)}")
        return value

    def size(self, tensor: str, axis: int = 0) -> int:
        """Return a size of a tensor that must be there."""
        shape = self.shapes.get(tensor)
        if shape is None or len(shape) != 2:
            raise CorruptCheckpoint(f"{self.path} should have a matrix {tensor}, found the shape {shape}")
        return shape[axis]


def recognised(path: Path) -> Path | None:
    """Return the GGUF file that `path` is or, as a directory with nothing else to read, holds."""
    if path.is_file():
        return path
    found = sorted(path.glob(f"*{SUFFIX}"))
    if len(found) == 1 and not (path / "modules.json").exists():
        return found[0]
    return None


def read(path: Path, location: Location, options: LoadOptions = DEFAULTS) -> Checkpoint:
    """Read the checkpoint in the file at `path`, without the dense layers of `location.dense_from`.

    Raises:
        CorruptCheckpoint: The file is damaged, or its metadata contradicts its tensors.
        UnsupportedModel: An architecture or a setting that embergem does not have, or missing dense layers that neither
            `location.dense_from` nor `options.allow_missing_dense` accounts for.
    """
    file = File.open(path)
    readers = {"gemma-embedding": _gemma, "gemma3": _gemma, "bert": _bert}
    reader = readers.get(file.architecture)
    if reader is None:
        raise UnsupportedModel(
            f"{path} has the architecture {file.architecture!r}; from GGUF embergem reads {', '.join(readers)}. Other "
            "families are read from safetensors"
        )
    config = reader(file)
    number = file.get("pooling_type", int, 1 if reader is _gemma else 0)
    if number not in _POOLING:
        raise UnsupportedModel(
            f"{path}: pooling_type is {number}, which doesn't say how token vectors become one; embergem has 1 (mean), "
            "2 (cls) and 3 (last)"
        )
    dense = _dense(file, location, options) if reader is _gemma else ()
    return Checkpoint(
        config=config,
        head=(Pooling(_POOLING[number]), *dense, Normalize()),
        weights=(("", path),),
        tokenizer=_tokenizer(file, location),
        prompts=None,
        limit=file.get("context_length", int),
        limit_declared=False,
        declared_names=provenance.of_gguf(file.metadata),
    )


def _gemma(file: File) -> dict[str, Any]:
    if file.architecture == "gemma3" and "gemma3.pooling_type" not in file.metadata:
        raise UnsupportedModel(
            f"{file.path} is a chat model (Gemma 3 without a pooling_type); embergem reads its encoders, such as "
            "google/embeddinggemma-300m"
        )
    head_dim = file.get("attention.key_length", int)
    return {
        "model_type": "gemma3_text",
        "use_bidirectional_attention": True,
        "hidden_activation": "gelu_pytorch_tanh",
        "norms_folded": True,
        "vocab_size": file.size("embed_tokens.weight"),
        "hidden_size": file.get("embedding_length", int),
        "intermediate_size": file.get("feed_forward_length", int),
        "num_hidden_layers": file.get("block_count", int),
        "num_attention_heads": file.get("attention.head_count", int),
        "num_key_value_heads": file.get("attention.head_count_kv", int),
        "head_dim": head_dim,
        "query_pre_attn_scalar": head_dim,
        "rms_norm_eps": file.get("attention.layer_norm_rms_epsilon", float),
        "max_position_embeddings": file.get("context_length", int),
        "sliding_window": file.get("attention.sliding_window", int),
        "_sliding_window_pattern": 6,
        "rope_theta": file.get("rope.freq_base", float),
        "rope_local_base_freq": file.get("rope.freq_base_swa", float, 1e4),
    }


def _bert(file: File) -> dict[str, Any]:
    if file.get("attention.causal", bool, False):
        raise UnsupportedModel(f"{file.path}: bert.attention.causal is true; embergem runs BERT as an encoder")
    return {
        "model_type": "bert",
        "vocab_size": file.size("embeddings.word_embeddings.weight"),
        "hidden_size": file.get("embedding_length", int),
        "intermediate_size": file.get("feed_forward_length", int),
        "num_hidden_layers": file.get("block_count", int),
        "num_attention_heads": file.get("attention.head_count", int),
        "max_position_embeddings": file.size("embeddings.position_embeddings.weight"),
        "type_vocab_size": file.size("embeddings.token_type_embeddings.weight"),
        "layer_norm_eps": file.get("attention.layer_norm_epsilon", float),
        "hidden_act": "gelu",
    }


def _dense(file: File, location: Location, options: LoadOptions) -> tuple[Module, ...]:
    names = [name for name in ("2_Dense", "3_Dense") if f"{name}.linear.weight" in file.shapes]
    if names:
        tensors = [(name, f"{name}.linear.weight") for name in names]
        return tuple(Dense(name, file.size(t, 1), file.size(t), False, None) for name, t in tensors)
    if location.dense_from is not None:
        return ()
    if options.allow_missing_dense:
        log.warning("%s: without its dense layers; these vectors are a space of their own", file.path)
        return ()
    raise UnsupportedModel(
        f"{file.path} has no dense layers, which the conversion left out: its vectors would look right and be another "
        "model's. Take them from the original with --dense-from google/embeddinggemma-300m (dense_from= in Python), or "
        "embed without them, in a space of its own, with --allow-missing-dense (allow_missing_dense=True)"
    )


def _tokenizer(file: File, location: Location) -> Path:
    beside = file.path.with_name("tokenizer.json")
    if beside.is_file():
        return beside
    if file.architecture != "bert" and location.tokenizer is not None:
        return location.tokenizer
    raise CorruptCheckpoint(
        f"{beside} is missing. embergem doesn't read the tokenizer in a GGUF file; put the tokenizer.json of the "
        "original model beside it"
    )
