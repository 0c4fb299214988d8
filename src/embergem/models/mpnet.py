"""MPNet encoders: all-mpnet-base-v2.

A BERT without token types. Positions begin after the row of the padding token, which is not counted, as in RoBERTa. The
attention scores get a learned bias by relative distance, which all layers share.
"""

from dataclasses import dataclass

from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="MPNet",
    checkpoints="all-mpnet-base-v2",
    differs="relative position biases",
    model_types=("mpnet",),
    special_tokens=("opening", "closing"),
    prefixes=("mpnet.",),
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "max_position_embeddings",
        "relative_attention_num_buckets",
        "layer_norm_eps",
    ),
    inert=(Inert("hidden_act", ("gelu",), "the activation of the feed-forward layers"),),
)

PADDING = 1
"""The padding token. The published code has this number in its source, whatever `pad_token_id` is."""


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    max_position_embeddings: int
    position_offset: int
    relative_attention_num_buckets: int
    layer_norm_eps: float

    @property
    def places(self) -> int:
        """Tokens that the position table has rows for."""
        return self.max_position_embeddings - self.position_offset


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("hidden_size", int),
        intermediate_size=fields.need("intermediate_size", int),
        num_attention_heads=fields.need("num_attention_heads", int),
        num_hidden_layers=fields.need("num_hidden_layers", int),
        max_position_embeddings=fields.need("max_position_embeddings", int),
        position_offset=PADDING + 1,
        relative_attention_num_buckets=fields.get("relative_attention_num_buckets", int, 32),
        layer_norm_eps=fields.get("layer_norm_eps", float, 1e-12),
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden, heads = config, config.hidden_size, config.num_attention_heads

    def norm(x: Value, w: Weights) -> Value:
        return ops.norm(x, w("weight", hidden), bias=w("bias", hidden), kind="layer", eps=c.layer_norm_eps)

    def linear(x: Value, w: Weights, out: int, features: int) -> Value:
        return ops.linear(x, w("weight", out, features), w("bias", out))

    w = weights.under("embeddings.")
    x = ops.embed(
        batch,
        w("word_embeddings.weight", c.vocab_size, hidden),
        positions=w("position_embeddings.weight", c.max_position_embeddings, hidden),
        offset=c.position_offset,
        padding=PADDING,
    )
    x = norm(x, w.under("LayerNorm."))
    bias = weights("encoder.relative_attention_bias.weight", c.relative_attention_num_buckets, heads)
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"encoder.layer.{layer}.")
        q, k, v = (linear(x, w.under(f"attention.attn.{name}."), hidden, hidden) for name in "qkv")
        h = ops.attention(
            batch, q, k, v,
            heads=heads, kv_heads=heads, head_dim=hidden // heads, scale=(hidden // heads) ** -0.5, bias=bias,
        )  # fmt: skip
        h = linear(h, w.under("attention.attn.o."), hidden, hidden)
        x = norm(ops.add(x, h), w.under("attention.LayerNorm."))

        h = linear(x, w.under("intermediate.dense."), c.intermediate_size, hidden)
        h = ops.activation(h, kind="gelu_erf")
        h = linear(h, w.under("output.dense."), hidden, c.intermediate_size)
        x = norm(ops.add(x, h), w.under("output.LayerNorm."))
    return x
