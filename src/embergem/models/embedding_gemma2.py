"""EmbeddingGemma 2, its text half; vision and audio tensors of the checkpoint are never read.

Unlike the first: RMSNorm multiplies by the weight as stored, the window is an inclusive radius as written, values are
normalised without a weight, scores are not scaled, each layer kind has its own heads, each layer adds an embedding of
its own made from the first one, and every token is projected before pooling.
"""

from dataclasses import dataclass
from typing import Any

from embergem.models.config import fields_of, layer_kinds, rope_thetas
from embergem.ops import Batch, Ops, Value, Weight, Weights

BUILTIN_PROMPTS = "embeddinggemma2"
WINDOW = "sliding_window"
TRAINED_DIMENSIONS = (768, 512, 256, 128)


@dataclass(frozen=True, slots=True)
class Layer:
    """What differs between layers."""

    full_attention: bool
    head_dim: int
    num_key_value_heads: int


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass reads."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    hidden_size_per_layer_input: int
    embedding_dim: int
    num_attention_heads: int
    rms_norm_eps: float
    radius: int
    layers: tuple[Layer, ...]
    theta_full: float
    theta_sliding: float

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json; refuse settings that would change the arithmetic."""
        read = fields_of(config)
        read = fields_of(read.get("text_config", dict, config))
        read.expect("hidden_activation", "gelu_pytorch_tanh")
        read.expect("attention_bias", False)
        thetas = rope_thetas(read, full=("rope_theta", 1e6), sliding=("rope_local_base_freq", 1e4))
        head_dim, kv_heads = read.need("head_dim", int), read.need("num_key_value_heads", int)
        own = {int(layer): fields_of(fields) for layer, fields in read.get("per_layer_config", dict, {}).items()}
        kinds = layer_kinds(read, 6, first=5)
        layers = tuple(
            Layer(
                full_attention=full,
                head_dim=own[layer].get("head_dim", int, head_dim) if layer in own else head_dim,
                num_key_value_heads=own[layer].get("num_key_value_heads", int, kv_heads) if layer in own else kv_heads,
            )
            for layer, full in enumerate(kinds)
        )
        return cls(
            vocab_size=read.need("vocab_size", int),
            hidden_size=read.need("hidden_size", int),
            intermediate_size=read.need("intermediate_size", int),
            hidden_size_per_layer_input=read.need("hidden_size_per_layer_input", int),
            embedding_dim=read.need("embedding_dim", int),
            num_attention_heads=read.need("num_attention_heads", int),
            rms_norm_eps=read.get("rms_norm_eps", float, 1e-6),
            radius=read.need("sliding_window", int),
            layers=layers,
            theta_full=thetas["full_attention"],
            theta_sliding=thetas["sliding_attention"],
        )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to projected last hidden states, (t, embedding_dim)."""
    c, hidden, heads, own = config, config.hidden_size, config.num_attention_heads, config.hidden_size_per_layer_input

    def norm(x: Value, weight: Weight | None, per_head: int | None = None) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.rms_norm_eps, per_head=per_head)

    first = x = ops.scale(ops.embed(batch, weights("embed_tokens.weight", c.vocab_size, hidden)), hidden**0.5)
    for index, layer in enumerate(c.layers):
        w = weights.under(f"layers.{index}.")
        theta = c.theta_full if layer.full_attention else c.theta_sliding
        d, kv_heads = layer.head_dim, layer.num_key_value_heads

        h = norm(x, w("input_layernorm.weight", hidden))
        q = ops.linear(h, w("self_attn.q_proj.weight", heads * d, hidden))
        k = ops.linear(h, w("self_attn.k_proj.weight", kv_heads * d, hidden))
        v = ops.linear(h, w("self_attn.v_proj.weight", kv_heads * d, hidden))
        q = ops.rope(batch, norm(q, w("self_attn.q_norm.weight", d), d), head_dim=d, theta=theta)
        k = ops.rope(batch, norm(k, w("self_attn.k_norm.weight", d), d), head_dim=d, theta=theta)
        h = ops.attention(
            batch, q, k, norm(v, None, d),
            heads=heads, kv_heads=kv_heads, head_dim=d, scale=1.0,
            radius=None if layer.full_attention else c.radius,
        )  # fmt: skip
        h = ops.linear(h, w("self_attn.o_proj.weight", hidden, heads * d))
        x = ops.add(x, norm(h, w("post_attention_layernorm.weight", hidden)))

        h = norm(x, w("pre_feedforward_layernorm.weight", hidden))
        gate = ops.linear(h, w("mlp.gate_proj.weight", c.intermediate_size, hidden))
        up = ops.linear(h, w("mlp.up_proj.weight", c.intermediate_size, hidden))
        h = ops.linear(ops.glu(gate, up, kind="gelu_tanh"), w("mlp.down_proj.weight", hidden, c.intermediate_size))
        x = ops.add(x, norm(h, w("post_feedforward_layernorm.weight", hidden)))

        # The layer's own embedding, made here and not for all layers at once: those would be 24 times as wide.
        ple, block = weights.under("ple."), w.under("ple_block.")
        table = ple("per_layer_model_projection.weight", len(c.layers) * own, hidden)
        p = ops.scale(ops.linear(first, table, rows=(index * own, (index + 1) * own)), hidden**-0.5)
        p = norm(p, ple("per_layer_projection_norm.weight", own))
        gate = ops.linear(x, block("per_layer_input_gate.weight", own, hidden))
        h = ops.linear(ops.glu(gate, p, kind="gelu_tanh"), block("per_layer_projection.weight", hidden, own))
        x = ops.add(x, norm(h, block("post_per_layer_input_norm.weight", hidden)))
        x = ops.scale(x, w("layer_scalar", 1))
    return ops.linear(
        norm(x, weights("norm.weight", hidden)), weights("embedding_projection.weight", c.embedding_dim, hidden)
    )
