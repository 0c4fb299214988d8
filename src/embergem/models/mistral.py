"""Mistral decoders: e5-mistral, SFR-Embedding-Mistral. Qwen2, EuroBERT and Llama have the same layers.

Pre-norm with rotary positions, grouped heads and a gated feed-forward layer. The stored `sliding_window` counts the
tokens that a causal query sees, itself included, so it reaches one token less far. Without causality it is the reach.
"""

from dataclasses import dataclass, replace

from embergem.models.config import Fields, causal
from embergem.models.family import Family, Inert
from embergem.models.rope import DEFAULT_BASE, Rope, read_rope
from embergem.ops import Batch, Llama3Scaling, Ops, Value, Weight, Weights

FAMILY = Family(
    title="Mistral",
    checkpoints="e5-mistral-7b-instruct, SFR-Embedding-Mistral",
    differs="causal, last-token pooling, sliding window in every layer, instructions",
    model_types=("mistral",),
    special_tokens=("opening", "closing"),
    window="sliding_window",
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
        "sliding_window",
        "is_causal",
        "use_bidirectional_attention",
    ),
    inert=(
        Inert("hidden_act", ("silu",), "the activation of the gated feed-forward layers"),
        Inert("attention_bias", (False, None), "a bias of the attention projections"),
        Inert("layer_types", (None,), "another kind of attention in some layers"),
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
    causal: bool
    radius: int | None = None
    qkv_bias: bool = False
    llama3: Llama3Scaling | None = None
    linear: float | None = None


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    config = read_decoder(fields, causal=causal(fields), rope=read_rope(fields, default=DEFAULT_BASE, llama3=True))
    window = fields.get("sliding_window", int, 0)
    return replace(config, radius=(window - 1 if config.causal else window) if window else None)


def read_decoder(fields: Fields, *, causal: bool, rope: Rope) -> Config:
    """Read the fields that all families with these layers have."""
    hidden, heads = fields.need("hidden_size", int), fields.need("num_attention_heads", int)
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=hidden,
        intermediate_size=fields.need("intermediate_size", int),
        num_hidden_layers=fields.need("num_hidden_layers", int),
        num_attention_heads=heads,
        num_key_value_heads=fields.need("num_key_value_heads", int),
        head_dim=fields.get("head_dim", int, hidden // heads),
        rms_norm_eps=fields.need("rms_norm_eps", float),
        rope_theta=rope.theta,
        causal=causal,
        llama3=rope.llama3,
        linear=rope.linear,
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden = config, config.hidden_size
    heads, kv_heads, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim

    def norm(x: Value, weight: Weight) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.rms_norm_eps)

    def project(x: Value, w: Weights, out: int) -> Value:
        return ops.linear(x, w("weight", out, hidden), w("bias", out) if c.qkv_bias else None)

    x = ops.embed(batch, weights("embed_tokens.weight", c.vocab_size, hidden))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"layers.{layer}.")

        h = norm(x, w("input_layernorm.weight", hidden))
        q = project(h, w.under("self_attn.q_proj."), heads * d)
        k = project(h, w.under("self_attn.k_proj."), kv_heads * d)
        v = project(h, w.under("self_attn.v_proj."), kv_heads * d)
        q, k = (
            ops.rope(batch, part, head_dim=d, theta=c.rope_theta, llama3=c.llama3, linear=c.linear) for part in (q, k)
        )
        h = ops.attention(
            batch, q, k, v,
            heads=heads, kv_heads=kv_heads, head_dim=d, scale=d**-0.5, causal=c.causal, radius=c.radius,
        )  # fmt: skip
        x = ops.add(x, ops.linear(h, w("self_attn.o_proj.weight", hidden, heads * d)))

        h = norm(x, w("post_attention_layernorm.weight", hidden))
        gate = ops.linear(h, w("mlp.gate_proj.weight", c.intermediate_size, hidden))
        up = ops.linear(h, w("mlp.up_proj.weight", c.intermediate_size, hidden))
        h = ops.glu(gate, up, kind="silu")
        x = ops.add(x, ops.linear(h, w("mlp.down_proj.weight", hidden, c.intermediate_size)))
    return norm(x, weights("norm.weight", hidden))
