"""Corrections of the arithmetic of a family that left the program key as it was, for `checkpoint.compiled`.

Separate because the compiler and the reader of compiled directories use it, and neither package imports the other.

A directory that `embergem compile` wrote has the program of its time. corrections.json says which programs are wrong:
its reader refuses a directory that was written before a correction of its family. The Rust SDK includes the same file.
`tests/models/test_program_keys.py` fails when the arithmetic of a family changes without a new key or a new entry.
"""

import pkgutil
from functools import cache

import msgspec


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A correction: its number, the families, and what they compute since."""

    number: int
    model_types: tuple[str, ...]
    what: str


@cache
def corrections() -> tuple[Correction, ...]:
    """Return all corrections, oldest first; their numbers count from 1."""
    data = pkgutil.get_data("embergem.models", "corrections.json") or b""
    return msgspec.json.decode(data, type=tuple[Correction, ...])


def missing(model_type: str, included: int) -> Correction | None:
    """Return the first correction of a family that a program lacks, which has those up to the number `included`.

    >>> missing("mpnet", 0).what
    'a padding token in a text is not counted as a position'
    >>> missing("mpnet", 1), missing("bert", 0)
    (None, None)
    """
    later = (one for one in corrections() if one.number > included and model_type in one.model_types)
    return next(later, None)
