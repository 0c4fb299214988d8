"""Rotary positions as config.json describes them: the base of the frequencies, and how they are scaled.

transformers 5 writes `rope_parameters`, one object for all layers or one for each kind of layer. Older versions write
`rope_theta`, or fields of the family's own, and `rope_scaling`. Both are read as transformers 5.23 reads them; where it
would drop a part of the config without a word, the config is refused.
"""

from dataclasses import dataclass

from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.config import Fields, fields_of
from embergem.ops import Llama3Scaling

FULL, SLIDING = "full_attention", "sliding_attention"
"""Kinds of layers."""

DEFAULT_BASE = 10_000.0
"""The base of decoders whose config.json has none, in transformers 4 and 5."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Base of the rotary frequencies; the number that divides all of them; the scaling of low ones."""

    theta: float
    linear: float | None = None
    llama3: Llama3Scaling | None = None


def read_rope(
    fields: Fields,
    old_name: str = "rope_theta",
    *,
    default: float | None,
    llama3: bool = False,
    ntk: int | None = None,
) -> Rope:
    """Return the rotary positions of a model whose layers all have the same.

    Args:
        fields: config.json.
        old_name: Field of the base in the older form.
        default: Base of a config without one. None: config.json must state it, because versions of the published code
            have different defaults.
        llama3: Whether the family has the scaling of Llama 3.1.
        ntk: Features of a head, if the family has the fixed NTK scaling of the GTE models.

    Raises:
        UnsupportedModel: The positions are stretched in a way that embergem does not have, or described twice.
        CorruptCheckpoint: A number is missing or impossible.
    """
    new, old = (fields.get(name, dict, {}) for name in ("rope_parameters", "rope_scaling"))
    if new and old:
        raise _described_twice()
    fields.expect("partial_rotary_factor", None, 1.0, reason=_PARTIAL)
    base = fields.get(old_name, float, default or 0.0)
    return _read(Fields(new or old), base, old_name, llama3=llama3, ntk=ntk)


def read_layer_ropes(
    fields: Fields, *, full: tuple[str, float], sliding: tuple[str, float], scaled: tuple[str, ...]
) -> dict[str, Rope]:
    """Return the rotary positions of each kind of layer.

    Args:
        fields: config.json.
        full: Field of the base of full layers in the older form, and its default.
        sliding: The same for sliding layers.
        scaled: Kinds of layers that `rope_scaling`, the older form, applies to.

    Raises:
        UnsupportedModel: The positions are stretched in a way that embergem does not have, or described in a form that
            the published library drops.
        CorruptCheckpoint: A number is missing or impossible.
    """
    new, old = (fields.get(name, dict, {}) for name in ("rope_parameters", "rope_scaling"))
    if new and old:
        raise _described_twice()
    for name in ("rope_theta", "rope_type", "type", "factor"):
        if dict.get(new, name) is not None:
            raise UnsupportedModel(
                f"config.json: rope_parameters has {name} itself, and not an object for each kind of layer. The "
                f"published library ignores it there. Write it into {FULL!r} and {SLIDING!r}, as the model was trained."
            )
        Fields(new).expect(name, None)
    Fields(old).expect("type", None, "default", reason="the published library ignores it here; write it as rope_type")
    ropes = {}
    for kind, (old_name, default) in {FULL: full, SLIDING: sliding}.items():
        parameters = fields_of(Fields(new).get(kind, dict, old if kind in scaled else {}))
        ropes[kind] = _read(parameters, fields.get(old_name, float, default), old_name)
    return ropes


_PARTIAL = "another share of each head would be rotated"


def _read(parameters: Fields, base: float, old_name: str, *, llama3: bool = False, ntk: int | None = None) -> Rope:
    """Read the parameters of one rotation. `base` is its base unless they have one."""
    parameters.expect("partial_rotary_factor", None, 1.0, reason=_PARTIAL)
    theta = parameters.get("rope_theta", float, base)
    if theta <= 0:
        raise CorruptCheckpoint(f"config.json: {old_name} is missing or 0; it must be greater than 0")
    kind = parameters.get("rope_type", str, parameters.get("type", str, "default"))  # older versions write "type"
    match kind:
        case "default":
            return Rope(theta)
        case "linear":
            return Rope(theta, linear=parameters.need("factor", float))
        case "llama3" if llama3:
            return Rope(theta, llama3=_read_llama3(parameters))
        case "ntk" if ntk:
            # transformers has this scaling as a linear one with a larger base: model_doc/gte.md of its documentation.
            parameters.expect("mixed_b", None, reason="another scaling of each frequency")
            factor = parameters.need("factor", float)
            return Rope(theta * factor, linear=factor ** (2 / ntk))
    names = ["'default'", "'linear'", *(repr(name) for name, has in (("llama3", llama3), ("ntk", ntk)) if has)]
    known = f"{', '.join(names[:-1])} or {names[-1]}"
    raise UnsupportedModel(
        f"config.json: rope_type is {kind!r}; embergem supports {known} here (the other kinds stretch the rotary "
        "positions)"
    )


def _read_llama3(parameters: Fields) -> Llama3Scaling:
    scaling = Llama3Scaling(
        factor=parameters.need("factor", float),
        low_freq_factor=parameters.need("low_freq_factor", float),
        high_freq_factor=parameters.need("high_freq_factor", float),
        original_max_position_embeddings=parameters.need("original_max_position_embeddings", float),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise CorruptCheckpoint("config.json: high_freq_factor must be greater than low_freq_factor")
    return scaling


def _described_twice() -> UnsupportedModel:
    return UnsupportedModel(
        "config.json has both rope_parameters and rope_scaling. Remove the one that the model was not trained with."
    )
