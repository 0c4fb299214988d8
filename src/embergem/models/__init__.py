"""The model families, one file each, found by the `model_type` of config.json."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from embergem.errors import UnsupportedModel

FAMILIES = {
    "bert": "bert",
    "embedding_gemma2": "embedding_gemma2",
    "embedding_gemma2_text": "embedding_gemma2",
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


def family(config: dict[str, Any]) -> Family:
    """Find the family of a checkpoint by its config.json and read the config.

    Raises:
        UnsupportedModel: embergem has no such family, or the checkpoint sets something the family does not do.
    """
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnsupportedModel(
            f"config.json names the model type {model_type!r}, which embergem does not have. It has: "
            + ", ".join(sorted(FAMILIES))
        )
    module: ModuleType = importlib.import_module(f"embergem.models.{FAMILIES[model_type]}")
    read = module.Config.from_json(config)
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
