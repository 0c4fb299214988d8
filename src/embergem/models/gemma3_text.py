"""EmbeddingGemma 300m and other bidirectional Gemma 3 text encoders.

Two traps live here. The stored `sliding_window` is the width of a causal window; read in both directions it becomes an
inclusive radius of half of it, so 512 means |i - j| <= 256. And RMSNorm multiplies by 1 + weight.
"""

from dataclasses import dataclass
from typing import Any

from embergem.errors import UnsupportedModel
from embergem.models.config import fields_of, layer_kinds, rope_thetas
from embergem.ops import Batch, Ops, Value, Weight, Weights

BUILTIN_PROMPTS = "embeddinggemma"
WINDOW = "sliding_window"
TRAINED_DIMENSIONS = (768, 512, 256, 128)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    query_pre_attn_scalar: float
    rms_norm_eps: float
    max_position_embeddings: int
    radius: int
    full_attention: tuple[bool, ...]  # a layer
    theta_full: float
    theta_sliding: float
    norm_plus_one: bool = True  # false where the file has the 1 added already, as GGUF does

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json; refuse settings that would change the arithmetic."""
        read = fields_of(config)
        if not read.get("use_bidirectional_attention", bool, False):
            raise UnsupportedModel(
                "this gemma3_text checkpoint is a causal language model (use_bidirectional_attention is not true in "
                "config.json); embergem reads its encoders, such as google/embeddinggemma-300m"
            )
        read.expect("hidden_activation", "gelu_pytorch_tanh")
        read.expect("attention_bias", False)
        read.expect("attn_logit_softcapping", None)
        read.expect("rope_scaling", None)
        thetas = rope_thetas(read, full=("rope_theta", 1e6), sliding=("rope_local_base_freq", 1e4))
        pattern = read.get("_sliding_window_pattern", int, 6)
        return cls(
            vocab_size=read.need("vocab_size", int),
            hidden_size=read.need("hidden_size", int),
            intermediate_size=read.need("intermediate_size", int),
            num_attention_heads=read.need("num_attention_heads", int),
            num_key_value_heads=read.need("num_key_value_heads", int),
            head_dim=read.need("head_dim", int),
            query_pre_attn_scalar=read.get("query_pre_attn_scalar", float, 256.0),
            rms_norm_eps=read.get("rms_norm_eps", float, 1e-6),
            max_position_embeddings=read.need("max_position_embeddings", int),
            radius=read.need("sliding_window", int) // 2,
            full_attention=layer_kinds(read, pattern, first=pattern - 1),
            theta_full=thetas["full_attention"],
            theta_sliding=thetas["sliding_attention"],
            norm_plus_one=not read.get("norms_folded", bool, False),
        )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to last hidden states, (t, hidden_size)."""
    c, hidden = config, config.hidden_size
    heads, kv_heads, d = c.num_attention_heads, c.num_key_value_heads, c.head_dim

    def norm(x: Value, weight: Weight, per_head: int | None = None) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.rms_norm_eps, plus_one=c.norm_plus_one, per_head=per_head)

    x = ops.embed(batch, weights("embed_tokens.weight", c.vocab_size, hidden))
    x = ops.scale(x, hidden**0.5)
    for layer, full in enumerate(c.full_attention):
        w = weights.under(f"layers.{layer}.")
        theta = c.theta_full if full else c.theta_sliding

        h = norm(x, w("input_layernorm.weight", hidden))
        q = ops.linear(h, w("self_attn.q_proj.weight", heads * d, hidden))
        k = ops.linear(h, w("self_attn.k_proj.weight", kv_heads * d, hidden))
        v = ops.linear(h, w("self_attn.v_proj.weight", kv_heads * d, hidden))
        q = ops.rope(batch, norm(q, w("self_attn.q_norm.weight", d), d), head_dim=d, theta=theta)
        k = ops.rope(batch, norm(k, w("self_attn.k_norm.weight", d), d), head_dim=d, theta=theta)
        h = ops.attention(
            batch, q, k, v,
            heads=heads, kv_heads=kv_heads, head_dim=d,
            scale=c.query_pre_attn_scalar**-0.5,
            radius=None if full else c.radius,
        )  # fmt: skip
        h = ops.linear(h, w("self_attn.o_proj.weight", hidden, heads * d))
        x = ops.add(x, norm(h, w("post_attention_layernorm.weight", hidden)))

        h = norm(x, w("pre_feedforward_layernorm.weight", hidden))
        gate = ops.linear(h, w("mlp.gate_proj.weight", c.intermediate_size, hidden))
        up = ops.linear(h, w("mlp.up_proj.weight", c.intermediate_size, hidden))
        h = ops.glu(gate, up, kind="gelu_tanh")
        h = ops.linear(h, w("mlp.down_proj.weight", hidden, c.intermediate_size))
        x = ops.add(x, norm(h, w("post_feedforward_layernorm.weight", hidden)))
    return norm(x, weights("norm.weight", hidden))
