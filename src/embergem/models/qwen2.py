"""Qwen2 decoders: gte-Qwen2, jina-code-embeddings. The layers are Mistral's, with a bias on queries, keys and values.

Separate because each model family is one file.
"""

from dataclasses import replace

from embergem.models import mistral
from embergem.models.config import Fields, causal, require_full_attention
from embergem.models.family import Family, Inert
from embergem.models.mistral import forward
from embergem.models.rope import DEFAULT_BASE, read_rope

__all__ = ["FAMILY", "forward", "read_config"]

FAMILY = Family(
    title="Qwen2",
    checkpoints="gte-Qwen2, jina-code-embeddings, nomic-embed-code",
    differs="bias on queries, keys and values, causal or in both directions",
    model_types=("qwen2",),
    special_tokens=("closing",),
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "rope_parameters",
        "rope_theta",
        "rope_scaling",
        "partial_rotary_factor",
        "layer_types",
        "is_causal",
        "use_bidirectional_attention",
    ),
    inert=(
        Inert("hidden_act", ("silu",), "the activation of the gated feed-forward layers"),
        Inert("use_sliding_window", (False,), "limits attention to a window"),
        Inert("sliding_window", "any", "use_sliding_window says that there is none"),
        Inert("max_window_layers", "any", "use_sliding_window says that there is no window"),
    ),
)


def read_config(fields: Fields) -> mistral.Config:
    """Read config.json."""
    require_full_attention(fields)
    rope = read_rope(fields, default=DEFAULT_BASE, llama3=True)
    return replace(mistral.read_decoder(fields, causal=causal(fields), rope=rope), qkv_bias=True)
