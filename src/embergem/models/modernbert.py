"""ModernBERT encoders: gte-modernbert-base, granite-embedding r2.

Pre-norm with GeGLU. A layer attends to the whole row, or to a radius of half of `local_attention`; each kind has its
own rotary base. The first layer has no norm before its attention.
"""

from dataclasses import dataclass

from embergem.models.config import Fields, full_attention_layers
from embergem.models.family import Family, Inert
from embergem.models.rope import FULL, SLIDING, read_layer_ropes
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="ModernBERT",
    checkpoints="gte-modernbert-base, granite-embedding r2",
    differs="GeGLU, local and global layers",
    model_types=("modernbert",),
    special_tokens=("opening", "closing"),
    window="local_attention",
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "norm_eps",
        "norm_bias",
        "attention_bias",
        "mlp_bias",
        "local_attention",
        "global_attn_every_n_layers",
        "layer_types",
        "rope_parameters",
        "rope_scaling",
        "global_rope_theta",
        "local_rope_theta",
    ),
    inert=(
        Inert("hidden_activation", ("gelu",), "the activation of the gated feed-forward layers"),
        Inert("layer_norm_eps", "any", "the norms use norm_eps"),
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    norm_eps: float
    norm_bias: bool
    attention_bias: bool
    mlp_bias: bool
    radius: int
    full_attention: tuple[bool, ...]  # one for each layer
    theta_full: float
    theta_sliding: float
    linear_full: float | None = None
    linear_sliding: float | None = None


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    ropes = read_layer_ropes(
        fields, full=("global_rope_theta", 160000.0), sliding=("local_rope_theta", 10000.0), scaled=(FULL, SLIDING)
    )
    pattern = fields.get("global_attn_every_n_layers", int, 3)
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("hidden_size", int),
        intermediate_size=fields.need("intermediate_size", int),
        num_attention_heads=fields.need("num_attention_heads", int),
        norm_eps=fields.get("norm_eps", float, 1e-5),
        norm_bias=fields.get("norm_bias", bool, False),
        attention_bias=fields.get("attention_bias", bool, False),
        mlp_bias=fields.get("mlp_bias", bool, False),
        radius=fields.get("local_attention", int, 128) // 2,
        full_attention=full_attention_layers(fields, pattern, first=0),
        theta_full=ropes[FULL].theta,
        theta_sliding=ropes[SLIDING].theta,
        linear_full=ropes[FULL].linear,
        linear_sliding=ropes[SLIDING].linear,
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Return the last hidden states, (t, hidden_size)."""
    c, hidden, inner = config, config.hidden_size, config.intermediate_size
    heads, d = c.num_attention_heads, hidden // c.num_attention_heads

    def norm(x: Value, w: Weights) -> Value:
        bias = w("bias", hidden) if c.norm_bias else None
        return ops.norm(x, w("weight", hidden), bias=bias, kind="layer", eps=c.norm_eps)

    def linear(x: Value, w: Weights, out: int, features: int, part: int, parts: int, has_bias: bool) -> Value:
        """Apply a linear layer: part `part` of a matrix of `out` rows that is divided into `parts` equal parts."""
        rows = (part * out // parts, (part + 1) * out // parts) if parts > 1 else None
        return ops.linear(x, w("weight", out, features), w("bias", out) if has_bias else None, rows=rows)

    x = ops.embed(batch, weights("embeddings.tok_embeddings.weight", c.vocab_size, hidden))
    x = norm(x, weights.under("embeddings.norm."))
    for layer, full in enumerate(c.full_attention):
        w = weights.under(f"layers.{layer}.")
        theta, divisor = (c.theta_full, c.linear_full) if full else (c.theta_sliding, c.linear_sliding)

        h = norm(x, w.under("attn_norm.")) if layer else x
        q, k, v = (linear(h, w.under("attn.Wqkv."), 3 * hidden, hidden, i, 3, c.attention_bias) for i in range(3))
        q, k = (ops.rope(batch, part, head_dim=d, theta=theta, linear=divisor) for part in (q, k))
        h = ops.attention(
            batch, q, k, v,
            heads=heads, kv_heads=heads, head_dim=d, scale=d**-0.5, radius=None if full else c.radius,
        )  # fmt: skip
        x = ops.add(x, linear(h, w.under("attn.Wo."), hidden, hidden, 0, 1, c.attention_bias))

        h = norm(x, w.under("mlp_norm."))
        gate, up = (linear(h, w.under("mlp.Wi."), 2 * inner, hidden, i, 2, c.mlp_bias) for i in range(2))
        h = ops.glu(gate, up, kind="gelu_erf")
        x = ops.add(x, linear(h, w.under("mlp.Wo."), hidden, inner, 0, 1, c.mlp_bias))
    return norm(x, weights.under("final_norm."))
