"""EmbeddingGemma 2, its text half. The vision and audio tensors of the checkpoint are not read.

Unlike EmbeddingGemma 300m: RMSNorm multiplies by the weight as stored; the stored window is an inclusive radius; values
are normalised without a weight; attention scores are not scaled; each kind of layer has its own heads; each layer adds
an embedding of its own that is made from the token embedding; every token is projected before pooling.
"""

from dataclasses import dataclass

from embergem.models.config import Fields, fields_of, full_attention_layers
from embergem.models.family import Family, Inert
from embergem.models.rope import FULL, SLIDING, read_layer_ropes
from embergem.ops import Batch, Ops, Value, Weight, Weights

FAMILY = Family(
    title="EmbeddingGemma 2, text",
    checkpoints="google/embeddinggemma-2",
    differs="per-layer embeddings and head sizes, projection before pooling",
    model_types=("embedding_gemma2",),
    spellings=(("embedding_gemma2_text", "embedding_gemma2"),),
    arch=("embeddinggemma2",),
    special_tokens=("opening", "closing"),
    prompts="embeddinggemma2",
    nested="text_config",
    window="sliding_window",
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "hidden_size_per_layer_input",
        "embedding_dim",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "per_layer_config",
        "rms_norm_eps",
        "sliding_window",
        "layer_types",
        "sliding_window_pattern",
        "rope_parameters",
        "rope_theta",
        "rope_local_base_freq",
    ),
    inert=(
        Inert("hidden_activation", ("gelu_pytorch_tanh",), "the activation of the gated feed-forward layers"),
        Inert("attention_bias", (False,), "a bias of the attention projections"),
        Inert("rope_scaling", (None,), "stretches the rotary positions"),
        Inert("is_causal", (None,), "makes the window of the published library another one"),
    ),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """What differs between layers."""

    full_attention: bool
    head_dim: int
    num_key_value_heads: int


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

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
    linear_full: float | None = None
    linear_sliding: float | None = None


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    ropes = read_layer_ropes(fields, full=("rope_theta", 1e6), sliding=("rope_local_base_freq", 1e4), scaled=())
    head_dim, kv_heads = fields.need("head_dim", int), fields.need("num_key_value_heads", int)
    own = {int(layer): fields_of(config) for layer, config in fields.get("per_layer_config", dict, {}).items()}
    pattern = fields.get("sliding_window_pattern", int, 6)
    *kinds, _ = full_attention_layers(fields, pattern, first=pattern - 1)
    kinds.append(True)  # the published library makes the last layer a full one, whatever config.json says
    layers = tuple(
        Layer(
            full_attention=full,
            head_dim=own[layer].get("head_dim", int, head_dim) if layer in own else head_dim,
            num_key_value_heads=own[layer].get("num_key_value_heads", int, kv_heads) if layer in own else kv_heads,
        )
        for layer, full in enumerate(kinds)
    )
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("hidden_size", int),
        intermediate_size=fields.need("intermediate_size", int),
        hidden_size_per_layer_input=fields.need("hidden_size_per_layer_input", int),
        embedding_dim=fields.need("embedding_dim", int),
        num_attention_heads=fields.need("num_attention_heads", int),
        rms_norm_eps=fields.get("rms_norm_eps", float, 1e-6),
        radius=fields.need("sliding_window", int),
        layers=layers,
        theta_full=ropes[FULL].theta,
        theta_sliding=ropes[SLIDING].theta,
        linear_full=ropes[FULL].linear,
        linear_sliding=ropes[SLIDING].linear,
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to projected last hidden states, (t, embedding_dim)."""
    c, hidden, heads, own = config, config.hidden_size, config.num_attention_heads, config.hidden_size_per_layer_input

    def norm(x: Value, weight: Weight | None, per_head: int | None = None) -> Value:
        return ops.norm(x, weight, kind="rms", eps=c.rms_norm_eps, per_head=per_head)

    first = x = ops.scale(ops.embed(batch, weights("embed_tokens.weight", c.vocab_size, hidden)), hidden**0.5)
    for index, layer in enumerate(c.layers):
        w = weights.under(f"layers.{index}.")
        full, sliding = (c.theta_full, c.linear_full), (c.theta_sliding, c.linear_sliding)
        theta, linear = full if layer.full_attention else sliding
        d, kv_heads = layer.head_dim, layer.num_key_value_heads

        h = norm(x, w("input_layernorm.weight", hidden))
        q = ops.linear(h, w("self_attn.q_proj.weight", heads * d, hidden))
        k = ops.linear(h, w("self_attn.k_proj.weight", kv_heads * d, hidden))
        v = ops.linear(h, w("self_attn.v_proj.weight", kv_heads * d, hidden))
        q = ops.rope(batch, norm(q, w("self_attn.q_norm.weight", d), d), head_dim=d, theta=theta, linear=linear)
        k = ops.rope(batch, norm(k, w("self_attn.k_norm.weight", d), d), head_dim=d, theta=theta, linear=linear)
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

        # The embedding of this layer only: computed for all layers at once it would be 24 times as wide.
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
