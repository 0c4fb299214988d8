"""The model families, one file each, found by the `model_type` of config.json."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from embergem.errors import UnsupportedModel

FAMILIES = {
    "gemma3_text": "gemma3_text",
    "bert": "bert",
}
"""`model_type` of config.json -> the module in this package that runs it."""


@dataclass(frozen=True, slots=True)
class Family:
    """One model family: what its module declares.

    `config` is the parsed config.json; `forward(ops, config, weights, batch)` runs it; `trained_dimensions` are the
    sizes that Matryoshka training covered (empty: only the full size); `builtin_prompts` names a set in crates/text.
    """

    model_type: str
    config: Any
    forward: Callable[..., Any]
    trained_dimensions: tuple[int, ...]
    builtin_prompts: str | None


def family(config: dict[str, Any]) -> Family:
    """Find the family of a checkpoint by its config.json and read the config.

    Raises:
        UnsupportedModel: embergem has no such family, or the checkpoint sets something the family does not do.
    """
    model_type = config.get("model_type")
    if model_type not in FAMILIES:
        raise UnsupportedModel(
            f"config.json names the model type {model_type!r}, which embergem does not have. It has: "
            + ", ".join(sorted(FAMILIES))
        )
    module: ModuleType = importlib.import_module(f"embergem.models.{FAMILIES[model_type]}")
    return Family(
        model_type=model_type,
        config=module.Config.from_json(config),
        forward=module.forward,
        trained_dimensions=module.TRAINED_DIMENSIONS,
        builtin_prompts=module.BUILTIN_PROMPTS,
    )
