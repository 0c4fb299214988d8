"""EuroBERT encoders: Mistral's layers, attending in both directions.

Separate because each model family is one file.
"""

from embergem.models import mistral
from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.models.mistral import forward
from embergem.models.rope import read_rope

__all__ = ["FAMILY", "forward", "read_config"]

FAMILY = Family(
    title="EuroBERT",
    checkpoints="EuroBERT-210m, 610m, 2.1B",
    differs="the layers of a decoder in both directions, mean pooling",
    model_types=("eurobert",),
    special_tokens=("opening", "closing"),
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
    ),
    inert=(
        Inert("hidden_act", ("silu",), "the activation of the gated feed-forward layers"),
        Inert("attention_bias", (False,), "a bias of the attention projections"),
        Inert("mlp_bias", (False,), "a bias of the feed-forward layers"),
        Inert("is_causal", (False, None), "attends to earlier tokens only"),
        Inert("use_bidirectional_attention", (True, None), "attends to earlier tokens only if it is false"),
        Inert("sliding_window", (None,), "limits attention to a window"),
        Inert("layer_types", (None,), "another kind of attention in some layers"),
    ),
)


def read_config(fields: Fields) -> mistral.Config:
    """Read config.json."""
    # The authors' code has the base 250,000 where config.json has none, and the published library 10,000.
    return mistral.read_decoder(fields, causal=False, rope=read_rope(fields, default=None, llama3=True))
