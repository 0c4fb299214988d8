"""Qwen3-Embedding: a causal decoder whose last token's state is the vector (the pooling is the checkpoint's head).

RMSNorm multiplies by the weight as stored, queries and keys are normalised per head before the rotation, and the
embeddings are not scaled.
"""

from dataclasses import dataclass
from typing import Any

from embergem.models.config import fields_of, rope_theta
from embergem.ops import Batch, Ops, Value, Weight, Weights

BUILTIN_PROMPTS = None
TRAINED_DIMENSIONS = range(32, 1 << 16)  # every size from 32 to the full one


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json; refuse settings that would change the arithmetic."""
        read = fields_of(config)
        read.expect("hidden_act", "silu")
        read.expect("attention_bias", False)
        read.expect("use_sliding_window", False)
        read.expect("rope_scaling", None)
        heads = read.need("num_attention_heads", int)
        return cls(
            vocab_size=read.need("vocab_size", int),
            hidden_size=read.need("hidden_size", int),
            intermediate_size=read.need("intermediate_size", int),
            num_hidden_layers=read.need("num_hidden_layers", int),
            num_attention_heads=heads,
            num_key_value_heads=read.get("num_key_value_heads", int, heads),
            head_dim=read.need("head_dim", int),
            rms_norm_eps=read.get("rms_norm_eps", float, 1e-6),
            rope_theta=rope_theta(read, default=1e6),
        )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to last hidden states, (t, hidden_size)."""
    c, hidden = config, config.hidden_size
    heads, kv_heads, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim

    def norm(x: Value, weight: Weight, per_head: int | None = None) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.rms_norm_eps, per_head=per_head)

    x = ops.embed(batch, weights("embed_tokens.weight", c.vocab_size, hidden))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"layers.{layer}.")

        h = norm(x, w("input_layernorm.weight", hidden))
        q = ops.linear(h, w("self_attn.q_proj.weight", heads * d, hidden))
        k = ops.linear(h, w("self_attn.k_proj.weight", kv_heads * d, hidden))
        v = ops.linear(h, w("self_attn.v_proj.weight", kv_heads * d, hidden))
        q = ops.rope(batch, norm(q, w("self_attn.q_norm.weight", d), d), head_dim=d, theta=c.rope_theta)
        k = ops.rope(batch, norm(k, w("self_attn.k_norm.weight", d), d), head_dim=d, theta=c.rope_theta)
        h = ops.attention(
            batch, q, k, v, heads=heads, kv_heads=kv_heads, head_dim=d, scale=d**-0.5, causal=True
        )  # fmt: skip
        x = ops.add(x, ops.linear(h, w("self_attn.o_proj.weight", hidden, heads * d)))

        h = norm(x, w("post_attention_layernorm.weight", hidden))
        gate = ops.linear(h, w("mlp.gate_proj.weight", c.intermediate_size, hidden))
        up = ops.linear(h, w("mlp.up_proj.weight", c.intermediate_size, hidden))
        h = ops.glu(gate, up, kind="silu")
        x = ops.add(x, ops.linear(h, w("mlp.down_proj.weight", hidden, c.intermediate_size)))
    return norm(x, weights("norm.weight", hidden))
