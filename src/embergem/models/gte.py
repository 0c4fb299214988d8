"""GTE encoders of the second generation: gte-multilingual-base, gte-en-v1.5 and snowflake-arctic-embed-m-v2.0.

A post-norm BERT with rotary positions and gated feed-forward layers. config.json exists in two spellings: `new` is that
of the authors' code, `gte` that of transformers. Files have the tensor names of the authors' code in both.
"""

from dataclasses import dataclass

from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.models.rope import read_rope
from embergem.ops import Batch, Gate, Ops, Value, Weights

FAMILY = Family(
    title="GTE",
    checkpoints="gte-multilingual-base, gte-en-v1.5, snowflake-arctic-embed-m-v2.0",
    differs="rotary with NTK scaling, GeGLU, biases in attention",
    model_types=("gte",),
    spellings=(("new", "gte"),),
    special_tokens=("opening", "closing"),
    prefixes=("new.", "gte."),
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "head_dim",
        "type_vocab_size",
        "layer_norm_eps",
        "hidden_act",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "partial_rotary_factor",
    ),
    inert=(
        Inert("position_embedding_type", ("rope", None), "positions that are not rotary"),
        Inert("layer_norm_type", ("layer_norm", None), "another kind of norm"),
        Inert("logn_attention_scale", (False, None), "scales the queries of long rows"),
        Inert("logn_attention_clip1", (False, None), "bounds the scale of the queries of long rows"),
        Inert("pack_qkv", (True, None), "files with separate tensors for queries, keys and values"),
        Inert("unpad_inputs", "any", "says how rows are batched"),
        Inert("use_memory_efficient_attention", "any", "chooses between implementations of the same arithmetic"),
    ),
)

GATES: dict[str, Gate] = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
}


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses. `type_vocab_size` is 0 if there are no token types."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    type_vocab_size: int
    layer_norm_eps: float
    hidden_act: Gate
    rope_theta: float
    linear: float | None = None


def read_config(fields: Fields) -> Config:
    """Read config.json. The rotary base has no default, because the two libraries have different ones."""
    hidden, heads = fields.need("hidden_size", int), fields.need("num_attention_heads", int)
    fields.expect("head_dim", hidden // heads, None, reason="the heads have hidden_size / num_attention_heads features")
    rope = read_rope(fields, default=None, ntk=hidden // heads)
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=hidden,
        intermediate_size=fields.need("intermediate_size", int),
        num_attention_heads=heads,
        num_hidden_layers=fields.need("num_hidden_layers", int),
        type_vocab_size=fields.get("type_vocab_size", int, 1),
        layer_norm_eps=fields.get("layer_norm_eps", float, 1e-12),
        hidden_act=fields.choice("hidden_act", GATES, default="gelu"),
        rope_theta=rope.theta,
        linear=rope.linear,
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden, inner = config, config.hidden_size, config.intermediate_size
    heads, d = c.num_attention_heads, hidden // c.num_attention_heads

    def norm(x: Value, w: Weights) -> Value:
        return ops.norm(x, w("weight", hidden), bias=w("bias", hidden), kind="layer", eps=c.layer_norm_eps)

    w = weights.under("embeddings.")
    x = ops.embed(
        batch,
        w("word_embeddings.weight", c.vocab_size, hidden),
        types=w("token_type_embeddings.weight", c.type_vocab_size, hidden) if c.type_vocab_size else None,
    )
    x = norm(x, w.under("LayerNorm."))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"encoder.layer.{layer}.")
        packed, bias = w("attention.qkv_proj.weight", 3 * hidden, hidden), w("attention.qkv_proj.bias", 3 * hidden)
        q, k, v = (ops.linear(x, packed, bias, rows=(i * hidden, (i + 1) * hidden)) for i in range(3))
        q, k = (ops.rope(batch, part, head_dim=d, theta=c.rope_theta, linear=c.linear) for part in (q, k))
        h = ops.attention(batch, q, k, v, heads=heads, kv_heads=heads, head_dim=d, scale=d**-0.5)
        h = ops.linear(h, w("attention.o_proj.weight", hidden, hidden), w("attention.o_proj.bias", hidden))
        x = norm(ops.add(x, h), w.under("attn_ln."))

        both = w("mlp.up_gate_proj.weight", 2 * inner, hidden)
        up, gate = (ops.linear(x, both, rows=(i * inner, (i + 1) * inner)) for i in range(2))
        h = ops.glu(gate, up, kind=c.hidden_act)
        h = ops.linear(h, w("mlp.down_proj.weight", hidden, inner), w("mlp.down_proj.bias", hidden))
        x = norm(ops.add(x, h), w.under("mlp_ln."))
    return x
