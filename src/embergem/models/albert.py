"""ALBERT encoders: paraphrase-albert-small.

The layers are BERT's, but all of them have the weights of one. The embeddings are narrower than the layers, and a
linear layer widens them.
"""

from dataclasses import dataclass

from embergem.models.bert import ACTIVATIONS, Activation
from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="ALBERT",
    checkpoints="paraphrase-albert-small-v2",
    differs="one layer's weights for all layers, narrow embeddings",
    model_types=("albert",),
    special_tokens=("opening", "closing"),
    prefixes=("albert.",),
    fields=(
        "vocab_size",
        "embedding_size",
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
        Inert("num_hidden_groups", (1,), "more groups have weights of their own"),
        Inert("inner_group_num", (1,), "a group of several layers"),
        Inert("net_structure_type", "any", "is not used by the published code"),
        Inert("num_memory_blocks", "any", "is not used by the published code"),
        Inert("down_scale_factor", "any", "is not used by the published code"),
        Inert("gap_size", "any", "is not used by the published code"),
        Inert("position_embedding_type", ("absolute", None), "the relative kinds add a term to the attention scores"),
        Inert("is_decoder", (False,), "a decoder attends to earlier tokens only"),
        Inert("add_cross_attention", (False,), "cross-attention reads the output of another model"),
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

    vocab_size: int
    embedding_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    hidden_act: Activation

    @property
    def places(self) -> int:
        """Tokens that the position table has rows for."""
        return self.max_position_embeddings


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    return Config(
        vocab_size=fields.need("vocab_size", int),
        embedding_size=fields.need("embedding_size", int),
        hidden_size=fields.need("hidden_size", int),
        intermediate_size=fields.need("intermediate_size", int),
        num_attention_heads=fields.need("num_attention_heads", int),
        num_hidden_layers=fields.need("num_hidden_layers", int),
        max_position_embeddings=fields.need("max_position_embeddings", int),
        type_vocab_size=fields.get("type_vocab_size", int, 2),
        layer_norm_eps=fields.get("layer_norm_eps", float, 1e-12),
        hidden_act=fields.choice("hidden_act", ACTIVATIONS, default="gelu_new"),
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden, narrow = config, config.hidden_size, config.embedding_size
    head_dim = hidden // c.num_attention_heads

    def norm(x: Value, w: Weights, width: int = hidden) -> Value:
        return ops.norm(x, w("weight", width), bias=w("bias", width), kind="layer", eps=c.layer_norm_eps)

    def linear(x: Value, w: Weights, out: int, features: int) -> Value:
        return ops.linear(x, w("weight", out, features), w("bias", out))

    w = weights.under("embeddings.")
    x = ops.embed(
        batch,
        w("word_embeddings.weight", c.vocab_size, narrow),
        positions=w("position_embeddings.weight", c.max_position_embeddings, narrow),
        types=w("token_type_embeddings.weight", c.type_vocab_size, narrow),
    )
    x = norm(x, w.under("LayerNorm."), narrow)
    x = linear(x, weights.under("encoder.embedding_hidden_mapping_in."), hidden, narrow)
    w = weights.under("encoder.albert_layer_groups.0.albert_layers.0.")
    for _ in range(c.num_hidden_layers):
        q, k, v = (linear(x, w.under(f"attention.{name}."), hidden, hidden) for name in ("query", "key", "value"))
        h = ops.attention(
            batch, q, k, v,
            heads=c.num_attention_heads, kv_heads=c.num_attention_heads, head_dim=head_dim,
            scale=head_dim**-0.5,
        )  # fmt: skip
        h = linear(h, w.under("attention.dense."), hidden, hidden)
        x = norm(ops.add(x, h), w.under("attention.LayerNorm."))

        h = linear(x, w.under("ffn."), c.intermediate_size, hidden)
        h = ops.activation(h, kind=c.hidden_act)
        h = linear(h, w.under("ffn_output."), hidden, c.intermediate_size)
        x = norm(ops.add(x, h), w.under("full_layer_layer_norm."))
    return x
