"""BERT encoders: all-MiniLM, bge, e5, gte, arctic, mxbai.

Post-norm: the output of each sublayer is added to its input, and the sum is normalised. The pooler of the original
model is not used for embeddings and is not read.
"""

from dataclasses import dataclass
from typing import Literal

from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="BERT",
    checkpoints="all-MiniLM, bge, e5, gte, arctic, mxbai",
    differs="cls or mean pooling, prefixes",
    model_types=("bert",),
    special_tokens=("opening", "closing"),
    prefixes=("bert.",),
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
        "hidden_act",
    ),
    inert=(
        Inert("position_embedding_type", ("absolute", None), "the relative kinds add a term to the attention scores"),
        Inert("is_decoder", (False,), "a decoder attends to earlier tokens only"),
        Inert("add_cross_attention", (False,), "cross-attention reads the output of another model"),
    ),
)

Activation = Literal["gelu_erf", "gelu_tanh", "relu", "silu"]
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


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
    type_vocab_size: int
    layer_norm_eps: float
    hidden_act: Activation

    @property
    def padding(self) -> int | None:
        """The token that is not counted as a position: that of the row before the first position, which RoBERTa has."""
        return self.position_offset - 1 if self.position_offset else None

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
        position_offset=0,
        type_vocab_size=fields.get("type_vocab_size", int, 2),
        layer_norm_eps=fields.get("layer_norm_eps", float, 1e-12),
        hidden_act=fields.choice("hidden_act", ACTIVATIONS, default="gelu"),
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden = config, config.hidden_size
    head_dim = hidden // c.num_attention_heads

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
        padding=c.padding,
        types=w("token_type_embeddings.weight", c.type_vocab_size, hidden),
    )
    x = norm(x, w.under("LayerNorm."))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"encoder.layer.{layer}.")
        q, k, v = (linear(x, w.under(f"attention.self.{name}."), hidden, hidden) for name in ("query", "key", "value"))
        h = ops.attention(
            batch, q, k, v,
            heads=c.num_attention_heads, kv_heads=c.num_attention_heads, head_dim=head_dim,
            scale=head_dim**-0.5,
        )  # fmt: skip
        h = linear(h, w.under("attention.output.dense."), hidden, hidden)
        x = norm(ops.add(x, h), w.under("attention.output.LayerNorm."))

        h = linear(x, w.under("intermediate.dense."), c.intermediate_size, hidden)
        h = ops.activation(h, kind=c.hidden_act)
        h = linear(h, w.under("output.dense."), hidden, c.intermediate_size)
        x = norm(ops.add(x, h), w.under("output.LayerNorm."))
    return x
