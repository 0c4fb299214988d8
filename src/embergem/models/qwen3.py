"""Qwen3-Embedding: a causal decoder whose last token is pooled (the head of the checkpoint says so).

Other embedders on Qwen3, such as voyage-4-nano, attend in both directions; config.json says so.

RMSNorm multiplies by the weight as stored. Queries and keys are normalised per head before the rotation. The token
embeddings are not scaled.
"""

from dataclasses import dataclass

from embergem.models.config import Fields, causal, require_full_attention
from embergem.models.family import Family, Inert
from embergem.models.rope import DEFAULT_BASE, read_rope
from embergem.ops import Batch, Ops, Value, Weight, Weights

FAMILY = Family(
    title="Qwen3-Embedding",
    checkpoints="0.6B, 4B, 8B",
    differs="causal or in both directions, last-token pooling, closing token, instructions",
    model_types=("qwen3",),
    arch=("qwen3embedding",),
    special_tokens=("closing",),
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "rope_parameters",
        "rope_theta",
        "rope_scaling",
        "partial_rotary_factor",
        "layer_types",
        "is_causal",
        "use_bidirectional_attention",
    ),
    inert=(
        Inert("hidden_act", ("silu",), "the activation of the gated feed-forward layers"),
        Inert("attention_bias", (False,), "a bias of the attention projections"),
        Inert("use_sliding_window", (False,), "limits attention to a window"),
        Inert("sliding_window", "any", "use_sliding_window says that there is none"),
        Inert("max_window_layers", "any", "use_sliding_window says that there is no window"),
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    causal: bool = True
    linear: float | None = None


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    require_full_attention(fields)
    heads = fields.need("num_attention_heads", int)
    rope = read_rope(fields, default=DEFAULT_BASE)
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("hidden_size", int),
        intermediate_size=fields.need("intermediate_size", int),
        num_hidden_layers=fields.need("num_hidden_layers", int),
        num_attention_heads=heads,
        num_key_value_heads=fields.get("num_key_value_heads", int, heads),
        head_dim=fields.need("head_dim", int),
        rms_norm_eps=fields.get("rms_norm_eps", float, 1e-6),
        rope_theta=rope.theta,
        causal=causal(fields),
        linear=rope.linear,
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden = config, config.hidden_size
    heads, kv_heads, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim

    def norm(x: Value, weight: Weight, per_head: int | None = None) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.rms_norm_eps, per_head=per_head)

    def rotate(x: Value) -> Value:
        return ops.rope(batch, x, head_dim=d, theta=c.rope_theta, linear=c.linear)

    x = ops.embed(batch, weights("embed_tokens.weight", c.vocab_size, hidden))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"layers.{layer}.")

        h = norm(x, w("input_layernorm.weight", hidden))
        q = ops.linear(h, w("self_attn.q_proj.weight", heads * d, hidden))
        k = ops.linear(h, w("self_attn.k_proj.weight", kv_heads * d, hidden))
        v = ops.linear(h, w("self_attn.v_proj.weight", kv_heads * d, hidden))
        q = rotate(norm(q, w("self_attn.q_norm.weight", d), d))
        k = rotate(norm(k, w("self_attn.k_norm.weight", d), d))
        h = ops.attention(
            batch, q, k, v, heads=heads, kv_heads=kv_heads, head_dim=d, scale=d**-0.5, causal=c.causal
        )  # fmt: skip
        x = ops.add(x, ops.linear(h, w("self_attn.o_proj.weight", hidden, heads * d)))

        h = norm(x, w("post_attention_layernorm.weight", hidden))
        gate = ops.linear(h, w("mlp.gate_proj.weight", c.intermediate_size, hidden))
        up = ops.linear(h, w("mlp.up_proj.weight", c.intermediate_size, hidden))
        h = ops.glu(gate, up, kind="silu")
        x = ops.add(x, ops.linear(h, w("mlp.down_proj.weight", hidden, c.intermediate_size)))
    return norm(x, weights("norm.weight", hidden))
