"""MPNet encoders: all-mpnet-base-v2.

A BERT whose positions begin two rows into their table and whose scores get a learned bias by relative distance, shared
by all layers.
"""

from dataclasses import dataclass
from typing import Any

from embergem.models.config import fields_of
from embergem.ops import Batch, Ops, Value, Weights

BUILTIN_PROMPTS = None
TRAINED_DIMENSIONS = ()


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    max_position_embeddings: int
    position_offset: int
    relative_attention_num_buckets: int
    layer_norm_eps: float

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json; refuse settings that would change the arithmetic."""
        read = fields_of(config)
        read.expect("hidden_act", "gelu")
        return cls(
            vocab_size=read.need("vocab_size", int),
            hidden_size=read.need("hidden_size", int),
            intermediate_size=read.need("intermediate_size", int),
            num_attention_heads=read.need("num_attention_heads", int),
            num_hidden_layers=read.need("num_hidden_layers", int),
            max_position_embeddings=read.need("max_position_embeddings", int),
            position_offset=read.get("pad_token_id", int, 1) + 1,
            relative_attention_num_buckets=read.get("relative_attention_num_buckets", int, 32),
            layer_norm_eps=read.get("layer_norm_eps", float, 1e-12),
        )

    @property
    def places(self) -> int:
        """Tokens that the position table has rows for."""
        return self.max_position_embeddings - self.position_offset


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to last hidden states, (t, hidden_size)."""
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
