"""Llama decoders: the layers of Mistral, with the frequencies of the rotary positions scaled from Llama 3.1 on.

Separate because each model family is one file.
"""

from embergem.models import mistral
from embergem.models.config import Fields, causal
from embergem.models.family import Family, Inert
from embergem.models.mistral import forward
from embergem.models.rope import DEFAULT_BASE, read_rope

__all__ = ["FAMILY", "forward", "read_config"]

FAMILY = Family(
    title="Llama",
    checkpoints="embedders on Llama 3.1 and 3.2, such as drama",
    differs="scaled rotary frequencies, causal or in both directions",
    model_types=("llama",),
    special_tokens=("opening",),
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
        "is_causal",
        "use_bidirectional_attention",
    ),
    inert=(
        Inert("hidden_act", ("silu",), "the activation of the gated feed-forward layers"),
        Inert("attention_bias", (False,), "a bias of the attention projections"),
        Inert("mlp_bias", (False,), "a bias of the feed-forward layers"),
        Inert("sliding_window", (None,), "limits attention to a window"),
        Inert("layer_types", (None,), "another kind of attention in some layers"),
    ),
)


def read_config(fields: Fields) -> mistral.Config:
    """Read config.json."""
    rope = read_rope(fields, default=DEFAULT_BASE, llama3=True)
    return mistral.read_decoder(fields, causal=causal(fields), rope=rope)
