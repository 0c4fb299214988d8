"""What a process without Python has to know of a model besides its files: its program, and when that fits.

The Rust crate carries a card for each config of the catalog, and a compiled checkpoint has its own.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from embergem.models import family
from embergem.models.conditions import RecordingConfig
from embergem.models.head import Module
from embergem.program.build import build


def card(configs: Sequence[dict[str, Any]], head: Sequence[Module]) -> dict[str, Any]:
    """Return the card of the model that every one of `configs` describes, in the spellings that formats have.

    Its fields: `key` of the program; `model_type`; `spellings`, a list of conditions for each config (see
    `RecordingConfig`), any of which a config.json must meet; `head`, which must equal that of the checkpoint;
    `vocab_size`; `places`, the tokens that a position table covers; `smaller`, the sizes that vectors can be cut to, as
    ranges (first, last); `norm_before_cut`; `builtin_prompts`; `bare`, that texts get no special tokens; `program`.

    Raises:
        ValueError: Two of `configs` describe different models.
        LoadError: One of them is not of a kind that embergem has.
    """
    recorded = [RecordingConfig(config) for config in configs]
    families = [family(config) for config in recorded]
    kind = families[0]
    if any((other.config, other.forward) != (kind.config, kind.forward) for other in families):
        raise ValueError(f"the configs describe different models: {[other.config for other in families]}")
    program = build(kind, head)
    return {
        "key": program.key,
        "model_type": kind.model_type,
        "spellings": [config.conditions for config in recorded],
        "head": [{"module": type(module).__name__, **asdict(module)} for module in head],
        "vocab_size": kind.config.vocab_size,
        "places": kind.places,
        "smaller": ranges(size for size in kind.trained_dimensions if size < program.dimensions),
        "norm_before_cut": kind.norm_before_cut,
        "builtin_prompts": kind.builtin_prompts,
        "bare": kind.bare,
        "program": json.loads(program.to_json()),
    }


def ranges(sizes: Iterable[int]) -> list[tuple[int, int]]:
    """Write sizes as ranges of neighbours (first, last), smallest first.

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
