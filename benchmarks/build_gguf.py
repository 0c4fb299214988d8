"""Convert EmbeddingGemma for llama.cpp: one GGUF file with matrices in Q8_0, norms in float32, and no tokenizer.

    python benchmarks/build_gguf.py CHECKPOINT OUT.gguf

As in llama.cpp's own conversion, 1 is added to the norm weights. The file has no vocabulary, because the benchmark
passes token ids.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}
"""Names of the tensors of a layer: in the checkpoint and in the GGUF file."""


def renamed(name: str) -> str:
    """Return the name of a tensor in the GGUF file."""
    name = name.removeprefix("model.").removesuffix(".weight")
    if name.startswith("layers."):
        _, number, part = name.split(".", 2)
        return f"blk.{number}.{NAMES[part]}.weight"
    return {"embed_tokens": "token_embd.weight", "norm": "output_norm.weight"}[name]


def tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    """Return every tensor in float32, by its name in the GGUF file."""
    found = {}
    for name, value in load_file(checkpoint / "model.safetensors").items():
        found[renamed(name)] = value + 1 if name.endswith("norm.weight") else value
    for number in (2, 3):
        weights = load_file(checkpoint / f"{number}_Dense" / "model.safetensors")
        found[f"dense_{number}.weight"] = weights["linear.weight"]
    return found


def main(checkpoint: Path, out: Path) -> None:
    """Write the GGUF file."""
    config = json.loads((checkpoint / "config.json").read_text())
    weights = tensors(checkpoint)
    writer = gguf.GGUFWriter(out, "gemma-embedding")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    # llama.cpp's own conversion also writes the whole window; half of it lies on each side of a token.
    writer.add_sliding_window(config["sliding_window"])
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    for number in (2, 3):
        writer.add_dense_features_dims(f"dense_{number}", *weights[f"dense_{number}.weight"].shape[::-1])
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    kind = gguf.GGMLQuantizationType
    for name, value in weights.items():
        if value.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(value, kind.Q8_0), raw_dtype=kind.Q8_0)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
