"""Suggests known names for a misspelt one. Every error about an unknown name uses this module.

Separate because the lowest layers and the highest ones report unknown names, and `catalog` imports no `server`.
"""

import difflib
from collections.abc import Iterable

LONGEST = 64
"""Characters of a name that are compared. The comparison takes quadratic time, and a request may contain any name."""


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

    >>> "The option 'dtyp' is unknown." + did_you_mean("dtyp", ["dtype", "device"])
    "The option 'dtyp' is unknown. Did you mean 'dtype'?"
    >>> did_you_mean("foo", ["dtype", "device"])
    ''
    """
    similar = similar_names(name, known)
    return f" Did you mean {similar[0]!r}?" if similar else ""
