"""Write a full-size EmbeddingGemma-300m directory with random weights, which need no licence.

    python scripts/random_gemma.py [DIRECTORY] [--tokenizer tokenizer.json] [--dtype float32|bfloat16]

Each tensor is drawn from a random stream that its name seeds, so every machine gets the same bytes. The values are
24-bit uniform numbers of variance 1, scaled by 0.2 for norm weights, by 0.02 for the embedding table and by fan_in^-0.5
for other matrices. `tests/data/goldens/gemma300m_random` holds the vectors of the published library for these weights.
"""

import argparse
import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CONFIG = {
    "_sliding_window_pattern": 6,
    "architectures": ["Gemma3TextModel"],
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "dtype": "float32",
    "eos_token_id": 1,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 768,
    "intermediate_size": 1152,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 4,
    "max_position_embeddings": 2048,
    "model_type": "gemma3_text",
    "num_attention_heads": 3,
    "num_hidden_layers": 24,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 512,
    "use_bidirectional_attention": True,
    "vocab_size": 262144,
}
MODULES = ["Transformer", "Pooling", "Dense", "Dense", "Normalize"]
TASKS = {
    "search result": ["query", "BitextMining", "Reranking", "Retrieval", "Retrieval-query"],
    "clustering": ["Clustering"],
    "classification": ["Classification", "MultilabelClassification"],
    "code retrieval": ["InstructionRetrieval"],
    "sentence similarity": ["PairClassification", "STS"],
    "summarization": ["Summarization"],
}


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the tensors of the model: (checkpoint name, shape)."""
    yield "embed_tokens.weight", (262144, 768)
    for layer in range(24):
        at = f"layers.{layer}."
        for name, shape in {
            "input_layernorm": (768,),
            "mlp.down_proj": (768, 1152),
            "mlp.gate_proj": (1152, 768),
            "mlp.up_proj": (1152, 768),
            "post_attention_layernorm": (768,),
            "post_feedforward_layernorm": (768,),
            "pre_feedforward_layernorm": (768,),
            "self_attn.k_norm": (256,),
            "self_attn.k_proj": (256, 768),
            "self_attn.o_proj": (768, 768),
            "self_attn.q_norm": (256,),
            "self_attn.q_proj": (768, 768),
            "self_attn.v_proj": (256, 768),
        }.items():
            yield f"{at}{name}.weight", shape
    yield "norm.weight", (768,)


def draw(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the values of the tensor `name`."""
    stream = np.random.Philox(key=[300, zlib.crc32(name.encode())])
    values = np.empty(int(np.prod(shape)), dtype=np.float32)
    for start in range(0, len(values), 1 << 22):  # in pieces, to keep the float64 copies small
        part = values[start : start + (1 << 22)]
        uniform = (stream.random_raw(len(part)) >> np.uint64(40)).astype(np.float64)
        part[:] = ((uniform * 2.0**-23 - 1) * np.sqrt(3.0)).astype(np.float32)
    scale = 0.2 if len(shape) == 1 else 0.02 if name == "embed_tokens.weight" else shape[1] ** -0.5
    values *= np.float32(scale)
    return values.reshape(shape)


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write(path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], dtype: str) -> None:
    """Write a safetensors file; `tensors` maps the name in the file to (name of the stream, shape)."""
    size, header, at = {"float32": 4, "bfloat16": 2}[dtype], {}, 0
    for name, (_, shape) in tensors.items():
        end = at + int(np.prod(shape)) * size
        kind = {"float32": "F32", "bfloat16": "BF16"}[dtype]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for stream, shape in tensors.values():
            values = draw(stream, shape)
            file.write((values if dtype == "float32" else bfloat16(values)).data)


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, creating its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def write_model(directory: Path, dtype: str, tokenizer: Path | None) -> None:
    """Write the whole directory in the layout of sentence-transformers."""
    write_json(directory / "config.json", CONFIG | {"dtype": dtype})
    paths = ["" if number == 0 else f"{number}_{name}" for number, name in enumerate(MODULES)]
    kinds = [f"sentence_transformers.models.{name}" for name in MODULES]
    entries = zip(paths, kinds, strict=True)
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(entries)]
    write_json(directory / "modules.json", modules)
    pooling = {"word_embedding_dimension": 768, "pooling_mode_mean_tokens": True, "include_prompt": True}
    write_json(directory / "1_Pooling/config.json", pooling)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 2048, "do_lower_case": False})
    prompts = {name: f"task: {task} | query: " for task, names in TASKS.items() for name in names}
    prompts |= dict.fromkeys(("document", "Retrieval-document"), "title: none | text: ")
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(directory / "config_sentence_transformers.json", settings)
    for path, (out, features) in {"2_Dense": (3072, 768), "3_Dense": (768, 3072)}.items():
        dense = {"in_features": features, "out_features": out, "bias": False}
        write_json(
            directory / path / "config.json", dense | {"activation_function": "torch.nn.modules.linear.Identity"}
        )
        write(directory / path / "model.safetensors", {"linear.weight": (path, (out, features))}, dtype)
    if tokenizer is not None:
        shutil.copy(tokenizer, directory / "tokenizer.json")
    write(directory / "model.safetensors", {name: (name, shape) for name, shape in shapes()}, dtype)


def assets() -> Path:
    """Return the directory of the test assets, which all checkouts share."""
    return Path(os.environ.get("EMBERGEM_ASSETS") or Path.home() / ".cache" / "embergem-assets")


def main() -> None:
    """Write the directory if it does not exist."""
    parser = argparse.ArgumentParser(description="Write a full-size EmbeddingGemma-300m directory with random weights.")
    parser.add_argument("directory", type=Path, nargs="?", default=assets() / "random-embeddinggemma-300m")
    known = assets() / "gemma3-tokenizer" / "tokenizer.json"
    parser.add_argument("--tokenizer", type=Path, default=known if known.exists() else None)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    arguments = parser.parse_args()
    directory: Path = arguments.directory
    if (directory / "model.safetensors").exists():
        if arguments.tokenizer is not None and not (directory / "tokenizer.json").exists():
            shutil.copy(arguments.tokenizer, directory / "tokenizer.json")
        print(f"{directory} exists already")
        return
    start = time.monotonic()
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_model(partial, arguments.dtype, arguments.tokenizer)
    partial.rename(directory)
    print(f"wrote {directory} in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
