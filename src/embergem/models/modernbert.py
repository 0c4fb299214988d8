"""ModernBERT encoders: gte-modernbert-base, granite-embedding r2.

Pre-norm with GeGLU; layers look at the whole row or at a radius of half of `local_attention`, each kind with its own
rotary base. The first layer has no norm before its attention.
"""

from dataclasses import dataclass
from typing import Any

from embergem.models.config import fields_of, layer_kinds, rope_thetas
from embergem.ops import Batch, Ops, Value, Weights

BUILTIN_PROMPTS = None
WINDOW = "local_attention"
TRAINED_DIMENSIONS = ()


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    norm_eps: float
    norm_bias: bool
    attention_bias: bool
    mlp_bias: bool
    radius: int
    full_attention: tuple[bool, ...]  # a layer
    theta_full: float
    theta_sliding: float

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json; refuse settings that would change the arithmetic."""
        read = fields_of(config)
        read.expect("hidden_activation", "gelu")
        thetas = rope_thetas(read, full=("global_rope_theta", 160000.0), sliding=("local_rope_theta", 10000.0))
        pattern = read.get("global_attn_every_n_layers", int, 3)
        return cls(
            vocab_size=read.need("vocab_size", int),
            hidden_size=read.need("hidden_size", int),
            intermediate_size=read.need("intermediate_size", int),
            num_attention_heads=read.need("num_attention_heads", int),
            norm_eps=read.get("norm_eps", float, 1e-5),
            norm_bias=read.get("norm_bias", bool, False),
            attention_bias=read.get("attention_bias", bool, False),
            mlp_bias=read.get("mlp_bias", bool, False),
            radius=read.get("local_attention", int, 128) // 2,
            full_attention=layer_kinds(read, pattern, first=0),
            theta_full=thetas["full_attention"],
            theta_sliding=thetas["sliding_attention"],
        )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to last hidden states, (t, hidden_size)."""
    c, hidden, inner = config, config.hidden_size, config.intermediate_size
    heads, d = c.num_attention_heads, hidden // c.num_attention_heads

    def norm(x: Value, w: Weights) -> Value:
        bias = w("bias", hidden) if c.norm_bias else None
        return ops.norm(x, w("weight", hidden), bias=bias, kind="layer", eps=c.norm_eps)

    def linear(x: Value, w: Weights, out: int, features: int, part: int, parts: int, has_bias: bool) -> Value:
        """Return part `part` of the `parts` equal ones that are stored as one matrix of `out` rows."""
        rows = (part * out // parts, (part + 1) * out // parts) if parts > 1 else None
        return ops.linear(x, w("weight", out, features), w("bias", out) if has_bias else None, rows=rows)

    x = ops.embed(batch, weights("embeddings.tok_embeddings.weight", c.vocab_size, hidden))
    x = norm(x, weights.under("embeddings.norm."))
    for layer, full in enumerate(c.full_attention):
        w = weights.under(f"layers.{layer}.")
        theta = c.theta_full if full else c.theta_sliding

        h = norm(x, w.under("attn_norm.")) if layer else x
        q, k, v = (linear(h, w.under("attn.Wqkv."), 3 * hidden, hidden, i, 3, c.attention_bias) for i in range(3))
        q, k = (ops.rope(batch, part, head_dim=d, theta=theta) for part in (q, k))
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
