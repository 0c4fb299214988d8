"""Suggests known names for a misspelt one. Every error about an unknown name uses this module.

Separate because the lowest layers and the highest ones report unknown names, and `catalog` imports no `server`.
"""

import difflib
import re
from collections.abc import Iterable

LONGEST = 64
"""Characters of a name that are compared. The comparison takes quadratic time, and a request may contain any name."""

MISSPELT = 0.78
"""Similarity from which a name counts as a misspelt one. "dimensionality" is just similar enough to "dimension"."""

SHORTEST_PART = 4
"""Least characters of a part of a name for which the whole name is suggested."""


def similar_names(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return up to `count` of the `known` names that are similar to `name`, best first; case is ignored.

    Args:
        name: The unknown name.
        known: The names to choose from.
        count: Most names to return.
        cutoff: Least similarity, from 0 to 1, as `difflib` measures it.

    >>> similar_names("dtyp", ["dtype", "device"])
    ['dtype']
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name[:LONGEST].casefold(), folded, n=count, cutoff=cutoff)
    return [folded[match] for match in matches]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence that suggests the most similar name, with a space before it; "" if no name is similar.

    A name that is a part of one known name is taken for it.

    >>> "The option 'dtyp' is unknown." + did_you_mean("dtyp", ["dtype", "device"])
    "The option 'dtyp' is unknown. Did you mean 'dtype'?"
    >>> did_you_mean("foo", ["dtype", "device"])
    ''
    >>> did_you_mean("gemma", ["EmbeddingGemma", "Qwen3Embedding"])
    " Did you mean 'EmbeddingGemma'?"
    """
    known = list(known)
    folded = name.casefold()
    similar = similar_names(name, known) or [
        whole for whole in known if len(name) >= SHORTEST_PART and folded in whole.casefold()
    ]
    return f" Did you mean {similar[0]!r}?" if similar else ""


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` is probably a mistake for, or None if `name` is probably a name of its own.

    A name is a mistake for a known one if both are similar as a whole, if both have the same letters, or if the last
    words of the name are similar to the known one or begin it: an `output_dimension` is a dimension. The first words
    do not count: an `input_type` is not an input.

    >>> known = ["dimensions", "input", "encoding_format", "user"]
    >>> [misspelt(name, known) for name in ("output_dimension", "dim", "encodingFormat", "usre", "input_type")]
    ['dimensions', 'dimensions', 'encoding_format', 'user', None]
    """
    known = list(known)
    if similar := similar_names(name, known, cutoff=MISSPELT):
        return similar[0]
    joined = {"_".join(_words(candidate)): candidate for candidate in known}
    words = _words(name)
    for start in (0, *range(max(1, len(words) - 3), len(words))):
        end = "_".join(words[start:])
        if similar := similar_names(end, joined, cutoff=MISSPELT):
            return joined[similar[0]]
        for candidate, meant in joined.items():
            abbreviated = 3 <= len(end) < len(candidate) > 5 and candidate.startswith(end) and "_" not in candidate
            if abbreviated or sorted(end) == sorted(candidate):
                return meant
    return None


def _words(name: str) -> list[str]:
    """Split a name into words, in lower case and in the singular: `outputDimensions` -> output, dimension."""
    parts = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:LONGEST]))
    return [part.casefold().removesuffix("s") if len(part) > 3 else part.casefold() for part in parts]
