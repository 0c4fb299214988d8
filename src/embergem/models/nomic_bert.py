"""NomicBERT encoders: nomic-embed-text-v1 and v1.5.

A post-norm BERT with rotary positions, SwiGLU and no biases in its matrices. Its config.json exists in two spellings:
with GPT-2's names, as the original code writes it, and with the names of transformers.
"""

from dataclasses import dataclass

from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.models.rope import read_rope
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="NomicBERT",
    checkpoints="nomic-embed-text-v1.5",
    differs="rotary, SwiGLU, cut after a layer norm",
    model_types=("nomic_bert",),
    arch=("nomicbert",),
    special_tokens=("opening", "closing"),
    fields=(
        "vocab_size",
        "hidden_size",
        "n_embd",
        "intermediate_size",
        "n_inner",
        "num_attention_heads",
        "n_head",
        "head_dim",
        "num_hidden_layers",
        "n_layer",
        "type_vocab_size",
        "layer_norm_eps",
        "layer_norm_epsilon",
        "rope_parameters",
        "rope_scaling",
        "partial_rotary_factor",
        "rotary_emb_base",
    ),
    inert=(
        Inert("prenorm", (False,), "normalises before the sublayers instead of after"),
        Inert("qkv_proj_bias", (False,), "a bias of the query, key and value projections"),
        Inert("mlp_fc1_bias", (False,), "a bias of the first feed-forward layers"),
        Inert("mlp_fc2_bias", (False,), "a bias of the second feed-forward layer"),
        Inert("rotary_emb_fraction", (1.0, 1), "the share of each head that is rotated"),
        Inert("rotary_emb_interleaved", (False,), "rotates neighbouring features instead of halves"),
        Inert("rotary_emb_scale_base", (None,), "the decay of xPos"),
        Inert("rotary_scaling_factor", (None,), "stretches the rotary positions of long rows"),
        Inert("activation_function", ("swiglu",), "the gate of the feed-forward layers, in GPT-2's names"),
        Inert("hidden_act", ("silu",), "the gate of the feed-forward layers, in the names of transformers"),
        Inert("causal", (False, None), "attends to earlier tokens only"),
        Inert("use_rms_norm", (False, None), "another kind of norm"),
        Inert("parallel_block", (False, None), "adds both sublayers at once"),
        Inert("parallel_block_tied_norm", (False, None), "one norm for both sublayers"),
        Inert("scale_attn_weights", (True, None), "scores without the scale of the head size"),
        Inert("scale_attn_by_inverse_layer_idx", (False, None), "another scale in each layer"),
        Inert("dense_seq_output", "any", "packs the tokens before a head that predicts tokens"),
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass uses."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_hidden_layers: int
    type_vocab_size: int
    layer_norm_eps: float
    rope_theta: float
    linear: float | None = None


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    rope = read_rope(fields, "rotary_emb_base", default=1000.0)
    hidden, heads = fields.first("hidden_size", "n_embd"), fields.first("num_attention_heads", "n_head")
    fields.expect("head_dim", hidden // heads, None, reason="the heads have hidden_size / num_attention_heads features")
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=hidden,
        intermediate_size=fields.first("intermediate_size", "n_inner"),
        num_attention_heads=heads,
        num_hidden_layers=fields.first("num_hidden_layers", "n_layer"),
        type_vocab_size=fields.get("type_vocab_size", int, 2),
        layer_norm_eps=fields.get("layer_norm_eps", float, fields.get("layer_norm_epsilon", float, 1e-12)),
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
        types=w("token_type_embeddings.weight", c.type_vocab_size, hidden),
    )
    x = norm(x, weights.under("emb_ln."))
    for layer in range(c.num_hidden_layers):
        w = weights.under(f"encoder.layers.{layer}.")
        wqkv = w("attn.Wqkv.weight", 3 * hidden, hidden)
        q, k, v = (ops.linear(x, wqkv, rows=(i * hidden, (i + 1) * hidden)) for i in range(3))
        q, k = (ops.rope(batch, part, head_dim=d, theta=c.rope_theta, linear=c.linear) for part in (q, k))
        h = ops.attention(batch, q, k, v, heads=heads, kv_heads=heads, head_dim=d, scale=d**-0.5)
        h = ops.linear(h, w("attn.out_proj.weight", hidden, hidden))
        x = norm(ops.add(x, h), w.under("norm1."))

        up, gate = (ops.linear(x, w(f"mlp.{name}.weight", inner, hidden)) for name in ("fc11", "fc12"))
        h = ops.linear(ops.glu(gate, up, kind="silu"), w("mlp.fc2.weight", hidden, inner))
        x = norm(ops.add(x, h), w.under("norm2."))
    return x
