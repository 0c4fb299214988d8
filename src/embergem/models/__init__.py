"""The model families, one file each, found by the `model_type` of config.json."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar, cast

from embergem.errors import UnsupportedModel, UnsupportedOption
from embergem.models.head import Module, apply
from embergem.ops import Batch, Operations, Ops, Value, WeightLookup, Weights

V = TypeVar("V")
W = TypeVar("W")
B = TypeVar("B")

FAMILIES = {
    "bert": "bert",
    "embedding_gemma2": "embedding_gemma2",
    "gemma3_text": "gemma3_text",
    "model2vec": "static",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "nomic_bert": "nomic_bert",
    "qwen3": "qwen3",
    "roberta": "bert",
    "xlm-roberta": "bert",
}
"""`model_type` of config.json -> the module in this package that runs it."""

SPELLINGS = {"embedding_gemma2_text": "embedding_gemma2"}
"""What config.json calls a family when only its text half was saved -> its `model_type` everywhere here."""

DENSE_LAYERS = {"gemma3_text": 2}
"""`model_type` -> the dense layers that its embedding models have after pooling."""

ARCHITECTURES = {
    "embeddinggemma": ("gemma3_text",),
    "embeddinggemma2": ("embedding_gemma2",),
    "qwen3embedding": ("qwen3",),
    "bert": ("bert",),
    "roberta": ("roberta", "xlm-roberta"),
    "mpnet": ("mpnet",),
    "modernbert": ("modernbert",),
    "nomicbert": ("nomic_bert",),
    "model2vec": ("model2vec",),
}
"""Names that `arch=` takes -> the `model_type`s they stand for."""


@dataclass(frozen=True, slots=True)
class Family:
    """One model family: what its module declares.

    `config` is the parsed config.json; `forward(ops, config, weights, batch)` runs it; `trained_dimensions` are the
    sizes that Matryoshka training covered (empty: only the full size); `norm_before_cut` says that vectors go through a
    layer norm without weights before such a cut; `builtin_prompts` names a set in crates/text; `places` is the number
    of tokens that a position table covers; `bare` says that texts get no special tokens and lose their unknown ones.
    """

    model_type: str
    config: Any
    forward: Callable[..., Any]
    trained_dimensions: Sequence[int]
    builtin_prompts: str | None
    norm_before_cut: bool
    places: int | None
    bare: bool

    def vectors(self, head: Sequence[Module], ops: Operations[V, W, B], weights: WeightLookup[W], batch: B) -> V:
        """Run the model and `head` with any backend: token ids to vectors (b, dimensions)."""
        # A model file sees opaque types only, so the types of any backend may stand for them.
        model_ops, model_weights, model_batch = cast("Ops", ops), cast("Weights", weights), cast("Batch", batch)
        hidden: Value = self.forward(model_ops, self.config, model_weights, model_batch)
        return cast("V", apply(model_ops, head, model_weights, model_batch, hidden))


def family(config: dict[str, Any], *, arch: str = "auto", window: int | None = None) -> Family:
    """Find the family of a checkpoint by its config.json and read the config.

    `arch` is "auto", a name of `ARCHITECTURES` or a `model_type`: what the checkpoint must be. `window` takes the place
    of the window that config.json stores.

    Raises:
        UnsupportedModel: embergem has no such family, it is not the one asked for, or the checkpoint sets something the
            family does not do.
        UnsupportedOption: There is no such `arch`, or the family has no window.
    """
    model_type = family_name(config.get("model_type"))
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnsupportedModel(
            f"config.json names the model type {model_type!r}, which embergem does not have. It has: "
            + ", ".join(sorted(FAMILIES))
        )
    expect(model_type, arch)
    module: ModuleType = importlib.import_module(f"embergem.models.{FAMILIES[model_type]}")
    read = module.Config.from_json(config if window is None else _windowed(config, module, window))
    return Family(
        model_type=model_type,
        config=read,
        forward=module.forward,
        trained_dimensions=module.TRAINED_DIMENSIONS,
        builtin_prompts=module.BUILTIN_PROMPTS,
        norm_before_cut=getattr(module, "NORM_BEFORE_CUT", False),
        places=getattr(read, "places", None),
        bare=getattr(module, "BARE", False),
    )


def family_name(model_type: Any) -> Any:
    """Return the one name that a family has here for a `model_type`; what is none comes back as it is.

    >>> family_name("embedding_gemma2_text")
    'embedding_gemma2'
    """
    return SPELLINGS.get(model_type, model_type) if isinstance(model_type, str) else model_type


def expect(model_type: str, arch: str) -> None:
    """Refuse a model that is not of the family `arch`; "auto" takes any."""
    if arch != "auto" and model_type not in _model_types(arch):
        raise UnsupportedModel(f"this checkpoint is of the family {model_type!r}, not {arch}; leave out arch")


def _model_types(arch: str) -> Sequence[str]:
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch]
    if family_name(arch) in FAMILIES:
        return (family_name(arch),)
    known = ", ".join(["auto", *ARCHITECTURES])
    raise UnsupportedOption(f"arch={arch!r} is no family that embergem has. It has: {known}", param="arch")


def _windowed(config: dict[str, Any], module: ModuleType, window: int) -> dict[str, Any]:
    """Return `config` with the window set, as the family's config.json writes it."""
    field = getattr(module, "WINDOW", None)
    if field is None:
        raise UnsupportedOption(f"{config['model_type']} has no sliding window; leave out window", param="window")
    if window < 2:
        raise UnsupportedOption(f"window={window} leaves no neighbour to see; give 2 or more", param="window")
    nested = config.get("text_config")
    if isinstance(nested, dict):
        return config | {"text_config": nested | {field: window}}
    return config | {field: window}
