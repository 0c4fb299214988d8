"""Program cards: what a process without Python needs besides a checkpoint's files, and for which checkpoints it holds.

The Rust crate carries a card for each published config and for each golden checkpoint of the tests.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from embergem import catalog
from embergem.models import architecture
from embergem.models.conditions import RecordingConfig
from embergem.models.head import Module
from embergem.program.build import build


def card(configs: Sequence[dict[str, Any]], head: Sequence[Module]) -> dict[str, Any]:
    """Return the card of the model that every one of `configs` describes, each in another spelling.

    Its fields:

    - `key`, `program`: the program and its key.
    - `model_type`: that of config.json, in its canonical spelling.
    - `spellings`: a list of conditions for each config (see `RecordingConfig`). A config.json must meet one list.
    - `head`: the head that the checkpoint must have.
    - `width`: width of the hidden states that are pooled, or null.
    - `vocab_size`: rows of the embedding table.
    - `places`: tokens that a position table covers, or null.
    - `config`: the fields of the family's config that the self-check compares with the catalog.
    - `builtin_prompts`: the set of prompts in crates/text, or null.
    - `special_tokens`: roles of the tokens around every text; without any, unknown tokens are dropped, or kept with
      `keep_unknown`.

    Raises:
        ValueError: Two of `configs` describe different models.
        LoadError: embergem does not have the model that one of them describes.
    """
    recorded = [RecordingConfig(config) for config in configs]
    described = [architecture(config) for config in recorded]
    first = described[0]
    if any((other.config, other.forward) != (first.config, first.forward) for other in described):
        raise ValueError(f"the configs describe different models: {[other.config for other in described]}")
    program = build(first, head)
    return {
        "key": program.key,
        "model_type": first.model_type,
        "spellings": [config.conditions for config in recorded],
        "head": [{"module": type(module).__name__, **asdict(module)} for module in head],
        "width": first.width,
        "vocab_size": first.config.vocab_size,
        "places": first.places,
        "config": _compared(first.config, first.model_type),
        "builtin_prompts": first.family.prompts,
        "special_tokens": first.family.special_tokens,
        **({"keep_unknown": True} if first.keep_unknown else {}),
        "program": json.loads(program.to_json()),
    }


def _compared(config: Any, model_type: str) -> dict[str, Any]:
    """Return the fields of a family's config that the self-check reads, or compares with catalog entries."""
    names = {"radius", "hidden_size", "num_hidden_layers", "vocab_size"}
    names.update(*((entry.config | entry.shape) for entry in catalog.CATALOG if entry.family == model_type))
    return {name: getattr(config, name) for name in sorted(names) if hasattr(config, name)}
