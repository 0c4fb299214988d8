"""Llama decoders: the layers of Mistral, with the frequencies of the rotary positions scaled from Llama 3.1 on.

Separate because each model family is one file.
"""

from dataclasses import replace

from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models import mistral
from embergem.models.config import Fields, causal
from embergem.models.family import Family, Inert
from embergem.models.mistral import forward
from embergem.ops import Llama3Scaling

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
    theta, scaling = _rope(fields)
    config = mistral.read_decoder(fields, causal=causal(fields), rope_theta=theta)
    return replace(config, llama3=scaling)


def _rope(fields: Fields) -> tuple[float, Llama3Scaling | None]:
    """Return base and scaling: from `rope_parameters`, or from `rope_theta` and `rope_scaling`, the older form."""
    new, old = (fields.get(name, dict, {}) for name in ("rope_parameters", "rope_scaling"))
    if new and old:
        raise UnsupportedModel(
            "config.json has both rope_parameters and rope_scaling. Remove the one that the model was not trained with."
        )
    theta = Fields(new).get("rope_theta", float, fields.get("rope_theta", float, 0.0))
    if theta <= 0:
        raise CorruptCheckpoint("config.json: rope_theta is missing or 0; it must be greater than 0")
    parameters = Fields(new or old)
    kind = parameters.get("rope_type", str, parameters.get("type", str, "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise UnsupportedModel(
            f"config.json: rope_type is {kind!r}; embergem supports 'default' or 'llama3' here (the other kinds "
            "stretch the rotary positions)"
        )
    scaling = Llama3Scaling(
        factor=parameters.need("factor", float),
        low_freq_factor=parameters.need("low_freq_factor", float),
        high_freq_factor=parameters.need("high_freq_factor", float),
        original_max_position_embeddings=parameters.need("original_max_position_embeddings", float),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise CorruptCheckpoint("config.json: high_freq_factor must be greater than low_freq_factor")
    return theta, scaling
