"""BERT encoders (all-MiniLM, bge, e5, gte, arctic, mxbai) and RoBERTa ones (bge-m3, multilingual-e5, arctic-l-v2).

Post-norm: each sublayer's output is added to its input and the sum is normalised. The pooler of the original model is
never used for embeddings; a checkpoint may carry it and it is not read. RoBERTa differs in one thing: its positions
begin after the padding token's, two rows into their table.
"""

from dataclasses import dataclass
from typing import Any, Literal

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
    type_vocab_size: int
    layer_norm_eps: float
    hidden_act: Literal["gelu_erf", "gelu_tanh", "relu", "silu"]

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json; refuse settings that would change the arithmetic."""
        read = fields_of(config)
        read.expect("position_embedding_type", "absolute", None)
        read.expect("is_decoder", False)
        read.expect("add_cross_attention", False)
        names: dict[str, Literal["gelu_erf", "gelu_tanh", "relu", "silu"]] = {
            "gelu": "gelu_erf",
            "gelu_new": "gelu_tanh",
            "gelu_pytorch_tanh": "gelu_tanh",
            "relu": "relu",
            "silu": "silu",
        }
        read.expect("hidden_act", *names)
        return cls(
            vocab_size=read.need("vocab_size", int),
            hidden_size=read.need("hidden_size", int),
            intermediate_size=read.need("intermediate_size", int),
            num_attention_heads=read.need("num_attention_heads", int),
            num_hidden_layers=read.need("num_hidden_layers", int),
            max_position_embeddings=read.need("max_position_embeddings", int),
            position_offset=0 if config["model_type"] == "bert" else read.get("pad_token_id", int, 1) + 1,
            type_vocab_size=read.get("type_vocab_size", int, 2),
            layer_norm_eps=read.get("layer_norm_eps", float, 1e-12),
            hidden_act=names[read.get("hidden_act", str, "gelu")],
        )

    @property
    def places(self) -> int:
        """Tokens that the position table has rows for."""
        return self.max_position_embeddings - self.position_offset


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to last hidden states, (t, hidden_size)."""
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
