"""DistilBERT encoders: distiluse, multi-qa-distilbert, msmarco-distilbert.

The layers are BERT's under other names. There are no token types, and the epsilon of the norms is no field of
config.json.
"""

from dataclasses import dataclass

from embergem.models.bert import ACTIVATIONS, Activation
from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="DistilBERT",
    checkpoints="distiluse-base-multilingual-cased, multi-qa-distilbert, msmarco-distilbert",
    differs="no token types, a dense layer with tanh after pooling",
    model_types=("distilbert",),
    special_tokens=("opening", "closing"),
    prefixes=("distilbert.",),
    fields=(
        "vocab_size",
        "dim",
        "hidden_dim",
        "n_heads",
        "n_layers",
        "max_position_embeddings",
        "activation",
    ),
    inert=(Inert("sinusoidal_pos_embds", (False,), "positions from a formula instead of a trained table"),),
)

LAYER_NORM_EPS = 1e-12
"""The value in the code of transformers (`models/distilbert/modeling_distilbert.py`)."""


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses, with the names that other families have for them."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    max_position_embeddings: int
    hidden_act: Activation

    @property
    def places(self) -> int:
        """Tokens that the position table has rows for."""
        return self.max_position_embeddings


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("dim", int),
        intermediate_size=fields.need("hidden_dim", int),
        num_attention_heads=fields.need("n_heads", int),
        num_hidden_layers=fields.need("n_layers", int),
        max_position_embeddings=fields.need("max_position_embeddings", int),
        hidden_act=fields.choice("activation", ACTIVATIONS, default="gelu"),
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden = config, config.hidden_size
    head_dim = hidden // c.num_attention_heads

    def norm(x: Value, w: Weights) -> Value:
        return ops.norm(x, w("weight", hidden), bias=w("bias", hidden), kind="layer", eps=LAYER_NORM_EPS)

    def linear(x: Value, w: Weights, out: int, features: int) -> Value:
        return ops.linear(x, w("weight", out, features), w("bias", out))

    w = weights.under("embeddings.")
    x = ops.embed(
        batch,
        w("word_embeddings.weight", c.vocab_size, hidden),
        positions=w("position_embeddings.weight", c.max_position_embeddings, hidden),
    )
    x = norm(x, w.under("LayerNorm."))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"transformer.layer.{layer}.")
        q, k, v = (linear(x, w.under(f"attention.{name}_lin."), hidden, hidden) for name in ("q", "k", "v"))
        h = ops.attention(
            batch, q, k, v,
            heads=c.num_attention_heads, kv_heads=c.num_attention_heads, head_dim=head_dim,
            scale=head_dim**-0.5,
        )  # fmt: skip
        h = linear(h, w.under("attention.out_lin."), hidden, hidden)
        x = norm(ops.add(x, h), w.under("sa_layer_norm."))

        h = linear(x, w.under("ffn.lin1."), c.intermediate_size, hidden)
        h = ops.activation(h, kind=c.hidden_act)
        h = linear(h, w.under("ffn.lin2."), hidden, c.intermediate_size)
        x = norm(ops.add(x, h), w.under("output_layer_norm."))
    return x
