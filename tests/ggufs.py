"""Writes GGUF files for tests, from a golden checkpoint or from given tensors."""

import json
import struct

import numpy as np
from goldens import DATA, golden

KINDS = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "BF16": 30,
}  # fmt: skip
GEMMA = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "post_feedforward_layernorm": "post_ffw_norm", "embed_tokens": "token_embd",
    "norm": "output_norm", "2_Dense.linear": "dense_2", "3_Dense.linear": "dense_3",
}  # fmt: skip
BERT = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
}  # fmt: skip


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(entry):
    """Return one metadata value with its type."""
    match entry:
        case bool():
            return struct.pack("<IB", 7, entry)
        case int():
            return struct.pack("<II", 4, entry)
        case float():
            return struct.pack("<If", 6, entry)
        case str():
            return struct.pack("<I", 8) + text(entry)
        case bytes():  # already written
            return entry
    raise TypeError(entry)


def file(metadata, tensors, *, version=3, counts=None, alignment=32, tail=b""):
    """Return a file of `tensors`: {name: (shape, kind number, bytes) or (shape, kind number, bytes, offset)}."""
    head, data = [], bytearray()
    for name, (shape, kind, content, *offset) in tensors.items():
        data += bytes(-len(data) % alignment)
        sizes = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head.append(
            text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, *offset or (len(data),))
        )
        data += content
    head = b"".join(text(key) + value(entry) for key, entry in metadata.items()) + b"".join(head)
    start = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(metadata))))
    return start + head + bytes(-(len(start) + len(head)) % alignment) + bytes(data) + tail


def stored(array, kind):
    """Return the entry of a tensor for `file`."""
    array = np.ascontiguousarray(array, dtype=np.float32)
    match kind:
        case "F16":
            content = array.astype(np.float16).tobytes()
        case "BF16":
            content = (array.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        case "Q8_0":
            blocks = array.reshape(-1, 32)
            scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
            whole = np.rint(blocks / np.maximum(scale.astype(np.float32), 1e-9)).clip(-127, 127).astype(np.int8)
            content = np.concatenate([scale.view(np.uint8), whole.view(np.uint8)], axis=1).tobytes()
        case _:
            content = array.tobytes()
    return array.shape, KINDS[kind], content


def of_gemma(kind="F32", *, dense=("dense_2", "dense_3"), architecture="gemma-embedding", more=(), **changes):
    """Return the golden EmbeddingGemma as llama.cpp converts it: 1 is added to norms, and matrices have type `kind`."""
    config = json.loads((DATA / "gemma3_text" / "config.json").read_text())
    settings = {
        "context_length": 160, "embedding_length": config["hidden_size"], "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"], "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"], "attention.key_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6,
        "attention.sliding_window": config["sliding_window"], "pooling_type": 1,
    }  # fmt: skip
    renamed = GEMMA | dict(zip(("2_Dense.linear", "3_Dense.linear"), dense or (None, None), strict=True))
    tensors = {}
    for name, array in _tensors("gemma3_text"):
        if name := _renamed(name, "layers.", renamed):
            array = array + 1 if array.ndim == 1 else array
            tensors[name] = stored(array, kind if array.ndim == 2 else "F32")
    tensors |= {name: stored(np.ones(16), "F32") for name in more}
    return _file(architecture, settings | changes, tensors)


def of_bert(name, kind="F32", **changes):
    """Return a golden BERT as llama.cpp converts it."""
    config = json.loads((DATA / name / "config.json").read_text())
    settings = {
        "context_length": 128, "embedding_length": config["hidden_size"], "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"], "attention.head_count": config["num_attention_heads"],
        "attention.layer_norm_epsilon": config["layer_norm_eps"], "attention.causal": False,
        "pooling_type": 2 if name == "bert_cls" else 1,
    }  # fmt: skip
    tensors = {}
    for theirs, array in _tensors(name):
        if renamed := _renamed(theirs, "encoder.layer.", BERT):
            small = array.ndim == 1 or renamed in ("position_embd.weight", "token_types.weight")
            tensors[renamed] = stored(array, "F32" if small else kind)
    return _file("bert", settings | changes, tensors)


def _file(architecture, settings, tensors):
    metadata = {"general.architecture": architecture, "tokenizer.ggml.tokens": _vocabulary()}
    for key, entry in settings.items():
        if entry is not None:
            whole = key.startswith(("general.", "split.", "quantize.", "tokenizer."))
            metadata[key if whole else f"{architecture}.{key}"] = entry
    return file(metadata, tensors)


def _vocabulary():
    return struct.pack("<IIQ", 9, 8, 2000) + b"".join(text(f"token {number}") for number in range(2000))


def _tensors(name):
    lookup = golden(name).tensors()
    return sorted(lookup.items())


def _renamed(name, layer, table):
    stem, _, kind = name.rpartition(".")
    if stem.startswith(layer):
        number, _, part = stem.removeprefix(layer).partition(".")
        return f"blk.{number}.{table[part]}.{kind}" if part in table else None
    return f"{table[stem]}.{kind}" if table.get(stem) else None
