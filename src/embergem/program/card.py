"""Program cards: what a process without Python needs besides a checkpoint's files, and for which checkpoints it holds.

The Rust crate carries a card for each published config and for each golden checkpoint of the tests.
"""

import json
from collections.abc import Iterable, Sequence
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
    - `vocab_size`: rows of the embedding table.
    - `places`: tokens that a position table covers, or null.
    - `smaller`: sizes that vectors can be shortened to, as ranges (first, last).
    - `norm_before_cut`: a layer norm without weights comes before a vector is shortened.
    - `builtin_prompts`: the set of prompts in crates/text, or null.
    - `bare`: texts get no special tokens, and unknown tokens are dropped.

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
        "vocab_size": first.config.vocab_size,
        "places": first.places,
        "smaller": ranges(size for size in catalog.trained_dimensions(first.model_type) if size < program.dimensions),
        "norm_before_cut": catalog.shared(first.model_type, "norm_before_cut") is True,
        "builtin_prompts": first.family.prompts,
        "bare": first.bare,
        "program": json.loads(program.to_json()),
    }


def ranges(sizes: Iterable[int]) -> list[tuple[int, int]]:
    """Return sizes as ranges of consecutive numbers (first, last), smallest first.

    >>> ranges([512, 34, 32, 33])
    [(32, 34), (512, 512)]
    """
    found: list[tuple[int, int]] = []
    for size in sorted(sizes):
        if found and found[-1][1] == size - 1:
            found[-1] = (found[-1][0], size)
        else:
            found.append((size, size))
    return found
