"""The architecture of a checkpoint: its family, and what config.json says about its sizes and settings."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from embergem.errors import UnsupportedModel, UnsupportedOption
from embergem.models.conditions import RecordingConfig
from embergem.models.config import Fields, fields_of
from embergem.models.family import ANY, Family, canonical_model_type, families, find, model_type_of
from embergem.models.head import Module, apply
from embergem.models.unread import require_all_read
from embergem.ops import Batch, Operations, Ops, Value, WeightLookup, Weights
from embergem.suggestions import did_you_mean

V = TypeVar("V")
W = TypeVar("W")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family with the config of one checkpoint.

    `model_type` is that of config.json in its canonical spelling. `config` is what the family's `read_config` returned.
    `arithmetic` is the module with `read_config` and `forward`: the family's own one or that of another family.
    """

    family: Family
    model_type: str
    arithmetic: str
    config: Any
    forward: Callable[[Ops, Any, Weights, Batch], Value]

    @property
    def places(self) -> int | None:
        """Tokens that the position table has rows for; None if positions are not looked up."""
        return getattr(self.config, "places", None)

    @property
    def width(self) -> int | None:
        """Width of the hidden states that are pooled; None if the family's config has another name for it."""
        width = getattr(self.config, "embedding_dim", None) or getattr(self.config, "hidden_size", None)
        return cast("int | None", width)

    @property
    def bare(self) -> bool:
        """Whether texts get no special tokens, and unknown tokens are removed: `bare` of the text pipeline."""
        return not self.family.special_tokens

    @property
    def keep_unknown(self) -> bool:
        """Whether a `bare` model keeps unknown tokens."""
        return self.family.keep_unknown

    def vectors(self, head: Sequence[Module], ops: Operations[V, W, B], weights: WeightLookup[W], batch: B) -> V:
        """Run the model and `head` with any backend: token ids to vectors (b, dimensions)."""
        # A model file sees opaque types only, so the types of any backend may stand for them.
        model_ops, model_weights, model_batch = cast("Ops", ops), cast("Weights", weights), cast("Batch", batch)
        hidden = self.forward(model_ops, self.config, model_weights, model_batch)
        return cast("V", apply(model_ops, head, model_weights, model_batch, hidden))


def architecture(config: dict[str, Any], *, arch: str = "auto", window: int | None = None) -> Architecture:
    """Return the architecture that a parsed config.json describes.

    `arch` is "auto", a family's name for `arch=` or a `model_type`: the checkpoint must be of it. `window` replaces the
    sliding window that config.json stores.

    Raises:
        UnsupportedModel: embergem does not have the family, it is not `arch`, or config.json sets something that the
            family does not implement or does not know.
        UnsupportedOption: `arch` names no family, or the family has no window to replace.
        CorruptCheckpoint: A field of config.json is missing or has a wrong type.
    """
    model_type = model_type_of(fields_of(config).config)
    found = find(model_type)
    if found is None:
        known = sorted(name for family in families().values() for name in family.model_types)
        raise UnsupportedModel(
            f"config.json names the model type {model_type!r}, which embergem does not have. It has: {', '.join(known)}"
        )
    module, family = found
    require_arch(model_type, arch)
    if window is not None:
        config = _with_window(config, family, window)
    recorded = config if isinstance(config, RecordingConfig) else RecordingConfig(config)
    config = dict(dict.items(config))  # a plain one: what is looked up in it is not recorded
    fields = _fields(recorded, family)
    for inert in family.inert:
        if inert.values == ANY:
            fields.ignore(inert.field)
        else:
            fields.expect(inert.field, *inert.values, reason=inert.reason)
    arithmetic = family.arithmetic or module
    code = importlib.import_module(f"embergem.models.{arithmetic}")
    described = Architecture(family, model_type, arithmetic, code.read_config(fields), code.forward)
    require_all_read(config, recorded.conditions, model_type)
    return described


def require_arch(model_type: str, arch: str) -> None:
    """Refuse a model whose canonical `model_type` is not of the family `arch`; "auto" accepts every family.

    Raises:
        UnsupportedModel: The model is of another family.
        UnsupportedOption: `arch` names no family.
    """
    if arch != "auto" and model_type not in _model_types(arch):
        raise UnsupportedModel(
            f"This checkpoint is of the family {model_type!r}, not {arch}. To load it, leave out arch."
        )


def _model_types(arch: str) -> Sequence[str]:
    for family in families().values():
        if arch in family.arch:
            return family.model_types
    if find(canonical_model_type(arch)):
        return (canonical_model_type(arch),)
    known = sorted(name for family in families().values() for name in family.arch_names)
    raise UnsupportedOption(
        f"arch={arch!r} is not a family that embergem has.{did_you_mean(arch, known)} It has: "
        f"{', '.join(['auto', *known])}.",
        param="arch",
    )


def _fields(config: dict[str, Any], family: Family) -> Fields:
    fields = fields_of(config)
    return fields if family.nested is None else fields_of(fields.get(family.nested, dict, config))


def _with_window(config: dict[str, Any], family: Family, window: int) -> dict[str, Any]:
    """Return `config` with the window in the field that the family reads."""
    if family.window is None:
        raise UnsupportedOption(f"{config['model_type']} has no sliding window. Leave out window.", param="window")
    changed = {family.window: window}
    if family.nested and isinstance(config.get(family.nested), dict):
        return config | {family.nested: config[family.nested] | changed}
    return config | changed
