"""Reads GGUF files: weights and settings in one file, as llama.cpp and Ollama use them.

The settings of config.json are made from the metadata. GGUF leaves some facts to the architecture, and this module adds
them: EmbeddingGemma attends in both directions, every sixth layer attends to the whole row, and norm weights already
have their 1 added. The native reader gives tensors the names that embergem's model families use.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embergem.checkpoint import provenance
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.files import shortened
from embergem.checkpoint.modules import MODULES_FILE
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.head import Dense, Module, Normalize, Pooling
from embergem.ops import Pooling as PoolingMode
from embergem.options import DEFAULTS, LoadOptions

SUFFIX = ".gguf"
_POOLING: dict[int, PoolingMode] = {1: "mean", 2: "cls", 3: "last"}

log = logging.getLogger(__name__)


@dataclass(slots=True)
class GgufFile:
    """The metadata of a GGUF file and the shapes of its tensors."""

    path: Path
    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def open(cls, path: Path) -> "GgufFile":
        """Map the file and read its header. `_native.Tensors` says what errors it raises."""
        from embergem._native import Tensors  # imported here so that resolving a name needs no native module

        tensors = Tensors([("", str(path))])
        return cls(path, json.loads(tensors.metadata), {name: tuple(shape) for name, shape, _ in tensors.list})

    @property
    def architecture(self) -> str:
        """The architecture that the file names; "" if it names none."""
        return str(self.metadata.get("general.architecture", ""))

    def get(self, key: str, kind: type[Any], default: Any = None) -> Any:
        """Return the value of `<architecture>.<key>`. Without a default the key is required."""
        name = f"{self.architecture}.{key}"
        value = self.metadata.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (kind is not bool and value < 0):
            raise CorruptCheckpoint(
                f"{self.path}: {name} should be a {kind.__name__}, found {shortened(value)}. Convert the model again."
            )
        return value

    def size(self, tensor: str, axis: int = 0) -> int:
        """Return the size of a required matrix along an axis."""
        shape = self.shapes.get(tensor)
        if shape is None or len(shape) != 2:
            raise CorruptCheckpoint(
                f"{self.path} should have a matrix {tensor}, found the shape {shape}. Convert the model again."
            )
        return shape[axis]


def find_gguf(path: Path) -> Path | None:
    """Return the GGUF file at `path`: the file itself, or the only one in a directory without a modules.json."""
    if path.is_file():
        return path
    found = sorted(path.glob(f"*{SUFFIX}"))
    if len(found) == 1 and not (path / MODULES_FILE).exists():
        return found[0]
    return None


def read_gguf(path: Path, location: Location, options: LoadOptions = DEFAULTS) -> Checkpoint:
    """Read the checkpoint in the GGUF file at `path`. Dense layers from `location.dense_from` are not added here.

    Raises:
        CorruptCheckpoint: The file is damaged, or its metadata contradicts its tensors.
        UnsupportedModel: The file has an architecture or a setting that embergem does not have, or it lacks its dense
            layers, and neither `location.dense_from` nor `options.allow_missing_dense` accounts for that.
    """
    file = GgufFile.open(path)
    readers = {"gemma-embedding": _gemma_config, "gemma3": _gemma_config, "bert": _bert_config}
    reader = readers.get(file.architecture)
    if reader is None:
        raise UnsupportedModel(
            f"{path} has the architecture {file.architecture!r}. From GGUF, embergem reads {', '.join(readers)}. For "
            "other families use the safetensors files of the model."
        )
    config = reader(file)
    number = file.get("pooling_type", int, 1 if reader is _gemma_config else 0)
    if number not in _POOLING:
        raise UnsupportedModel(
            f"{path}: pooling_type is {number}, which does not say how token vectors become one. embergem reads "
            "1 (mean), 2 (cls) and 3 (last)."
        )
    dense = _dense_layers(file, location, options) if reader is _gemma_config else ()
    return Checkpoint(
        config=config,
        head=(Pooling(_POOLING[number]), *dense, Normalize()),
        weights=(("", path),),
        tokenizer=_tokenizer(file, location),
        prompts=None,
        limit=file.get("context_length", int),
        limit_declared=False,
        declared_names=provenance.names_in_gguf(file.metadata),
    )


def _gemma_config(file: GgufFile) -> dict[str, Any]:
    if file.architecture == "gemma3" and "gemma3.pooling_type" not in file.metadata:
        raise UnsupportedModel(
            f"{file.path} is a chat model (Gemma 3 without a pooling_type). embergem reads encoders of this family, "
            "such as google/embeddinggemma-300m."
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
        "sliding_window_pattern": 6,
        "rope_theta": file.get("rope.freq_base", float),
        "rope_local_base_freq": file.get("rope.freq_base_swa", float, 1e4),
    }


def _bert_config(file: GgufFile) -> dict[str, Any]:
    if file.get("attention.causal", bool, False):
        raise UnsupportedModel(f"{file.path}: bert.attention.causal is true. embergem runs BERT as an encoder only.")
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


def _dense_layers(file: GgufFile, location: Location, options: LoadOptions) -> tuple[Module, ...]:
    names = [name for name in ("2_Dense", "3_Dense") if f"{name}.linear.weight" in file.shapes]
    if names:
        tensors = [(name, f"{name}.linear.weight") for name in names]
        return tuple(Dense(name, file.size(t, 1), file.size(t), False, None) for name, t in tensors)
    if location.dense_from is not None:
        return ()
    if options.allow_missing_dense:
        log.warning("%s has no dense layers. Its vectors are in a space of their own.", file.path)
        return ()
    raise UnsupportedModel(
        f"{file.path} has no dense layers, because the conversion to GGUF left them out. Its vectors would look right "
        "and be those of another model. Take the dense layers from the original model with "
        "--dense-from google/embeddinggemma-300m (dense_from= in Python), or embed without them, in another space, "
        "with --allow-missing-dense (allow_missing_dense=True)."
    )


def _tokenizer(file: GgufFile, location: Location) -> Path:
    beside = file.path.with_name("tokenizer.json")
    if beside.is_file():
        return beside
    if file.architecture != "bert" and location.tokenizer is not None:
        return location.tokenizer
    raise CorruptCheckpoint(
        f"{beside} is missing, and embergem does not read the tokenizer in a GGUF file. Put the tokenizer.json of the "
        "original model beside the file."
    )
