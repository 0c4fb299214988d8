"""Encoders of T5: sentence-t5, gtr-t5.

Pre-norm with RMSNorm and no biases. Positions are a bias of the attention scores, by the distance between two tokens;
the table of the first layer is used in all of them. Scores are not scaled.
"""

from dataclasses import dataclass
from typing import Literal

from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weight, Weights

FAMILY = Family(
    title="T5 encoder",
    checkpoints="sentence-t5, gtr-t5",
    differs="relative position buckets, unscaled scores, closing token",
    model_types=("t5",),
    special_tokens=("closing",),
    fields=(
        "vocab_size",
        "d_model",
        "d_kv",
        "d_ff",
        "num_heads",
        "num_layers",
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
        "layer_norm_epsilon",
        "feed_forward_proj",
        "dense_act_fn",
        "is_gated_act",
    ),
    inert=(
        Inert("is_decoder", (False,), "a decoder attends to earlier tokens only"),
        Inert("is_encoder_decoder", "any", "the checkpoint may have a decoder, which is not run"),
        Inert("num_decoder_layers", "any", "the decoder is not run"),
        Inert("scale_decoder_outputs", "any", "the decoder is not run"),
    ),
)

Activation = Literal["relu", "gelu_tanh", "silu"]
FEED_FORWARD: dict[str, tuple[Activation, bool, str]] = {
    "relu": ("relu", False, "relu"),
    "gated-gelu": ("gelu_tanh", True, "gelu_new"),
    "gated-silu": ("silu", True, "silu"),
}
"""By `feed_forward_proj`: the activation, whether it is of a gate, and its `dense_act_fn` (transformers T5Config)."""


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses, with the names that other families have for them."""

    vocab_size: int
    hidden_size: int
    head_dim: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    relative_attention_num_buckets: int
    relative_attention_max_distance: int
    layer_norm_eps: float
    hidden_act: Activation
    gated: bool


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    activation, gated, name = fields.choice("feed_forward_proj", FEED_FORWARD, default="relu")
    fields.expect("dense_act_fn", None, name, reason="feed_forward_proj names another activation")
    fields.expect("is_gated_act", None, gated, reason="feed_forward_proj says whether there is a gate")
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("d_model", int),
        head_dim=fields.need("d_kv", int),
        intermediate_size=fields.need("d_ff", int),
        num_attention_heads=fields.need("num_heads", int),
        num_hidden_layers=fields.need("num_layers", int),
        relative_attention_num_buckets=fields.get("relative_attention_num_buckets", int, 32),
        relative_attention_max_distance=fields.get("relative_attention_max_distance", int, 128),
        layer_norm_eps=fields.get("layer_norm_epsilon", float, 1e-6),
        hidden_act=activation,
        gated=gated,
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden, inner = config, config.hidden_size, config.intermediate_size
    heads, d = c.num_attention_heads, c.head_dim

    def norm(x: Value, weight: Weight) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.layer_norm_eps)

    def feed_forward(x: Value, w: Weights) -> Value:
        if c.gated and c.hidden_act != "relu":
            gate, up = (ops.linear(x, w(f"{name}.weight", inner, hidden)) for name in ("wi_0", "wi_1"))
            return ops.linear(ops.glu(gate, up, kind=c.hidden_act), w("wo.weight", hidden, inner))
        h = ops.activation(ops.linear(x, w("wi.weight", inner, hidden)), kind=c.hidden_act)
        return ops.linear(h, w("wo.weight", hidden, inner))

    x = ops.embed(batch, weights("shared.weight", c.vocab_size, hidden))
    weights = weights.under("encoder.")
    bias = weights(
        "block.0.layer.0.SelfAttention.relative_attention_bias.weight", c.relative_attention_num_buckets, heads
    )
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"block.{layer}.layer.")
        h = norm(x, w("0.layer_norm.weight", hidden))
        q, k, v = (ops.linear(h, w(f"0.SelfAttention.{name}.weight", heads * d, hidden)) for name in "qkv")
        h = ops.attention(
            batch, q, k, v,
            heads=heads, kv_heads=heads, head_dim=d, scale=1.0,
            bias=bias, furthest=c.relative_attention_max_distance,
        )  # fmt: skip
        x = ops.add(x, ops.linear(h, w("0.SelfAttention.o.weight", hidden, heads * d)))
        h = norm(x, w("1.layer_norm.weight", hidden))
        x = ops.add(x, feed_forward(h, w.under("1.DenseReluDense.")))
    return norm(x, weights("final_layer_norm.weight", hidden))
