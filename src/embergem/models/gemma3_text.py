"""EmbeddingGemma 300m and other bidirectional Gemma 3 text encoders. `gemma3_decoder` has the same layers.

Two details are easy to get wrong. RMSNorm multiplies by 1 + weight. The stored `sliding_window` has a meaning for each
direction (transformers 5.23, `Gemma3TextConfig` and `masking_utils`):

| config.json | a token sees |
| --- | --- |
| `use_bidirectional_attention: true` | `abs(i - j) <= w // 2` |
| the same with `is_causal: false` | `abs(i - j) <= w // 2 + 1` |
| `is_causal: false` | `abs(i - j) <= w` |
| neither | `0 <= i - j < w` |
"""

from dataclasses import dataclass

from embergem.errors import UnsupportedModel
from embergem.models.config import Fields, full_attention_layers
from embergem.models.family import Family, Inert
from embergem.models.rope import FULL, SLIDING, read_layer_ropes
from embergem.ops import Batch, Ops, Value, Weight, Weights

FAMILY = Family(
    title="EmbeddingGemma 300m",
    checkpoints="google, unsloth mirror, QAT variants, fine-tunes",
    differs="window in both directions, dense layers after pooling",
    model_types=("gemma3_text",),
    arch=("embeddinggemma",),
    special_tokens=("opening", "closing"),
    prompts="embeddinggemma",
    window="sliding_window",
    fields=(
        "use_bidirectional_attention",
        "is_causal",
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "query_pre_attn_scalar",
        "rms_norm_eps",
        "max_position_embeddings",
        "sliding_window",
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "layer_types",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "rope_local_base_freq",
        "norms_folded",
    ),
    inert=(
        Inert("hidden_activation", ("gelu_pytorch_tanh",), "the activation of the gated feed-forward layers"),
        Inert("attention_bias", (False,), "a bias of the attention projections"),
        Inert("attn_logit_softcapping", (None,), "bounds the attention scores with a tanh"),
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    query_pre_attn_scalar: float
    rms_norm_eps: float
    max_position_embeddings: int
    radius: int
    full_attention: tuple[bool, ...]  # one for each layer
    theta_full: float
    theta_sliding: float
    norm_plus_one: bool = True  # False for GGUF files, whose norm weights contain the 1
    causal: bool = False
    linear_full: float | None = None
    linear_sliding: float | None = None


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    ropes = read_layer_ropes(fields, full=("rope_theta", 1e6), sliding=("rope_local_base_freq", 1e4), scaled=(FULL,))
    causal, radius = _reach(fields)
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("hidden_size", int),
        intermediate_size=fields.need("intermediate_size", int),
        num_attention_heads=fields.need("num_attention_heads", int),
        num_key_value_heads=fields.need("num_key_value_heads", int),
        head_dim=fields.need("head_dim", int),
        query_pre_attn_scalar=fields.get("query_pre_attn_scalar", float, 256.0),
        rms_norm_eps=fields.get("rms_norm_eps", float, 1e-6),
        max_position_embeddings=fields.need("max_position_embeddings", int),
        radius=radius,
        full_attention=_full_attention(fields),
        theta_full=ropes[FULL].theta,
        theta_sliding=ropes[SLIDING].theta,
        norm_plus_one=not fields.get("norms_folded", bool, False),
        causal=causal,
        linear_full=ropes[FULL].linear,
        linear_sliding=ropes[SLIDING].linear,
    )


def _reach(fields: Fields) -> tuple[bool, int]:
    """Return whether tokens see earlier ones only, and how far they see in sliding layers: the table above."""
    window = fields.need("sliding_window", int)
    is_causal = fields.get("is_causal", bool, True)
    if fields.get("use_bidirectional_attention", bool, False):
        return False, window // 2 + (not is_causal)
    return is_causal, window - is_causal


def _full_attention(fields: Fields) -> tuple[bool, ...]:
    """Return for each layer whether it attends to the whole row."""
    pattern = fields.get("sliding_window_pattern", int, 6)
    layers = full_attention_layers(fields, pattern, first=pattern - 1)
    other = fields.get("_sliding_window_pattern", int, pattern)
    if not fields.get("layer_types", list, []) and other != pattern:
        raise UnsupportedModel(
            f"config.json: _sliding_window_pattern is {other} without layer_types. The published library ignores it "
            f"and makes one layer in {pattern} a full one. Write layer_types."
        )
    return layers


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden = config, config.hidden_size
    heads, kv_heads, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim

    def norm(x: Value, weight: Weight, per_head: int | None = None) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.rms_norm_eps, plus_one=c.norm_plus_one, per_head=per_head)

    x = ops.embed(batch, weights("embed_tokens.weight", c.vocab_size, hidden))
    x = ops.scale(x, hidden**0.5)
    for layer, full in enumerate(c.full_attention):
        w = weights.under(f"layers.{layer}.")
        theta, linear = (c.theta_full, c.linear_full) if full else (c.theta_sliding, c.linear_sliding)

        h = norm(x, w("input_layernorm.weight", hidden))
        q = ops.linear(h, w("self_attn.q_proj.weight", heads * d, hidden))
        k = ops.linear(h, w("self_attn.k_proj.weight", kv_heads * d, hidden))
        v = ops.linear(h, w("self_attn.v_proj.weight", kv_heads * d, hidden))
        q = ops.rope(batch, norm(q, w("self_attn.q_norm.weight", d), d), head_dim=d, theta=theta, linear=linear)
        k = ops.rope(batch, norm(k, w("self_attn.k_norm.weight", d), d), head_dim=d, theta=theta, linear=linear)
        h = ops.attention(
            batch, q, k, v,
            heads=heads, kv_heads=kv_heads, head_dim=d,
            scale=c.query_pre_attn_scalar**-0.5,
            causal=c.causal,
            radius=None if full else c.radius,
        )  # fmt: skip
        h = ops.linear(h, w("self_attn.o_proj.weight", hidden, heads * d))
        x = ops.add(x, norm(h, w("post_attention_layernorm.weight", hidden)))

        h = norm(x, w("pre_feedforward_layernorm.weight", hidden))
        gate = ops.linear(h, w("mlp.gate_proj.weight", c.intermediate_size, hidden))
        up = ops.linear(h, w("mlp.up_proj.weight", c.intermediate_size, hidden))
        h = ops.glu(gate, up, kind="gelu_tanh")
        h = ops.linear(h, w("mlp.down_proj.weight", hidden, c.intermediate_size))
        x = ops.add(x, norm(h, w("post_feedforward_layernorm.weight", hidden)))
    return norm(x, weights("norm.weight", hidden))
