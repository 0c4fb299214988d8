"""NomicBERT encoders: nomic-embed-text-v1 and v1.5.

A post-norm BERT with rotary positions, SwiGLU and no biases in its matrices. Its config.json comes in two spellings:
the GPT-2 one of the original code and that of transformers.
"""

from dataclasses import dataclass
from typing import Any

from embergem.models.config import fields_of, rope_theta
from embergem.ops import Batch, Ops, Value, Weights

BUILTIN_PROMPTS = None
TRAINED_DIMENSIONS = (768, 512, 256, 128, 64)
NORM_BEFORE_CUT = True


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    type_vocab_size: int
    layer_norm_eps: float
    rope_theta: float

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json; refuse settings that would change the arithmetic."""
        read = fields_of(config)
        read.expect("prenorm", False)
        read.expect("qkv_proj_bias", False)
        read.expect("mlp_fc1_bias", False)
        read.expect("mlp_fc2_bias", False)
        read.expect("rotary_emb_fraction", 1.0, 1)
        read.expect("rotary_emb_interleaved", False)
        read.expect("rotary_emb_scale_base", None)
        read.expect("activation_function", "swiglu")
        read.expect("hidden_act", "silu")
        return cls(
            vocab_size=read.need("vocab_size", int),
            hidden_size=read.first("hidden_size", "n_embd"),
            intermediate_size=read.first("intermediate_size", "n_inner"),
            num_attention_heads=read.first("num_attention_heads", "n_head"),
            num_hidden_layers=read.first("num_hidden_layers", "n_layer"),
            type_vocab_size=read.get("type_vocab_size", int, 2),
            layer_norm_eps=read.get("layer_norm_eps", float, read.get("layer_norm_epsilon", float, 1e-12)),
            rope_theta=rope_theta(read, "rotary_emb_base", default=1000.0),
        )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to last hidden states, (t, hidden_size)."""
    c, hidden, inner = config, config.hidden_size, config.intermediate_size
    heads, d = c.num_attention_heads, hidden // c.num_attention_heads

    def norm(x: Value, w: Weights) -> Value:
        return ops.norm(x, w("weight", hidden), bias=w("bias", hidden), kind="layer", eps=c.layer_norm_eps)

    w = weights.under("embeddings.")
    x = ops.embed(
        batch,
        w("word_embeddings.weight", c.vocab_size, hidden),
        types=w("token_type_embeddings.weight", c.type_vocab_size, hidden),
    )
    x = norm(x, weights.under("emb_ln."))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"encoder.layers.{layer}.")
        wqkv = w("attn.Wqkv.weight", 3 * hidden, hidden)
        q, k, v = (ops.linear(x, wqkv, rows=(i * hidden, (i + 1) * hidden)) for i in range(3))
        q, k = (ops.rope(batch, part, head_dim=d, theta=c.rope_theta) for part in (q, k))
        h = ops.attention(batch, q, k, v, heads=heads, kv_heads=heads, head_dim=d, scale=d**-0.5)
        h = ops.linear(h, w("attn.out_proj.weight", hidden, hidden))
        x = norm(ops.add(x, h), w.under("norm1."))

        up, gate = (ops.linear(x, w(f"mlp.{name}.weight", inner, hidden)) for name in ("fc11", "fc12"))
        h = ops.linear(ops.glu(gate, up, kind="silu"), w("mlp.fc2.weight", hidden, inner))
        x = norm(ops.add(x, h), w.under("norm2."))
    return x
