"""Reads GGUF files: weights and settings in one file, as llama.cpp and Ollama use them.

The settings of config.json are made from the metadata. GGUF leaves some facts to the architecture, and this module adds
them: EmbeddingGemma attends in both directions, every sixth layer attends to the whole row, and norm weights already
have their 1 added. The native reader gives tensors the names that embergem's model families use.
"""

import logging
from pathlib import Path
from typing import Any

from embergem.checkpoint import provenance
from embergem.checkpoint.checkpoint import Checkpoint, Location
from embergem.checkpoint.gguf_file import GgufFile
from embergem.checkpoint.modules import MODULES_FILE
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.head import Dense, Module, Normalize, Pooling
from embergem.ops import Pooling as PoolingMode
from embergem.options import DEFAULTS, LoadOptions

SUFFIX = ".gguf"
_POOLING: dict[int, PoolingMode] = {1: "mean", 2: "cls", 3: "last"}

log = logging.getLogger(__name__)


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
    limit = file.get("context_length", int)
    file.require_all_read()
    return Checkpoint(
        config=config,
        head=(Pooling(_POOLING[number]), *dense, Normalize()),
        weights=(("", path),),
        tokenizer=_tokenizer(file, location),
        prompts=None,
        limit=limit,
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
    _expect_sizes(file, head_dim, file.size("embed_tokens.weight"))
    file.expect("attention.causal", False, reason="an embedding attends in both directions")
    file.expect("attention.sliding_window_pattern", 6, reason="every sixth layer attends to the whole text")
    file.expect("rope.dimension_count", head_dim, reason="all features of a head are rotated")
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
    vocabulary, hidden = file.size("embeddings.word_embeddings.weight"), file.get("embedding_length", int)
    heads = file.get("attention.head_count", int)
    _expect_sizes(file, hidden // max(heads, 1), vocabulary)
    file.expect("attention.key_length", hidden // max(heads, 1), reason="the heads share the features equally")
    file.expect("attention.head_count_kv", heads, reason="queries, keys and values have the same heads")
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": file.get("feed_forward_length", int),
        "num_hidden_layers": file.get("block_count", int),
        "num_attention_heads": heads,
        "max_position_embeddings": file.size("embeddings.position_embeddings.weight"),
        "type_vocab_size": file.size("embeddings.token_type_embeddings.weight"),
        "layer_norm_eps": file.get("attention.layer_norm_epsilon", float),
        "hidden_act": "gelu",
    }


def _expect_sizes(file: GgufFile, head_dim: int, vocabulary: int) -> None:
    """Refuse settings that contradict the size of a head, or the rows of the embedding table."""
    file.expect("attention.value_length", head_dim, reason="keys and values have the same size")
    file.expect("vocab_size", vocabulary, reason="the embedding table has a row for each token")


def _expect_dense_sizes(file: GgufFile, names: list[str]) -> None:
    """Refuse settings that contradict the sizes of the dense layers; without dense layers they say what is missing."""
    for number in (2, 3):
        weight = f"{number}_Dense.linear.weight"
        for key, axis in ((f"dense_{number}_feat_in", 1), (f"dense_{number}_feat_out", 0)):
            sizes = (file.size(weight, axis),) if weight in file.shapes else (file.get(key, int, 0),)
            file.expect(key, *sizes, reason="it is the size of the dense layer")
    last = file.size(f"{names[-1]}.linear.weight") if names else file.get("embedding_length", int)
    file.expect("embedding_length_out", last, reason="it is the size of the vectors")


def _dense_layers(file: GgufFile, location: Location, options: LoadOptions) -> tuple[Module, ...]:
    names = [name for name in ("2_Dense", "3_Dense") if f"{name}.linear.weight" in file.shapes]
    _expect_dense_sizes(file, names)
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
