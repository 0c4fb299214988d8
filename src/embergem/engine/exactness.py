"""How near an integer model comes to its float32 self: measured at the first load of each state of the files."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from embergem._native import Model, __version__
from embergem.hub import file_state
from embergem.program.batch import cosines, packed

LEAST_COSINE = 0.9999
"""What `dtype="auto"` asks of integers before it takes them."""

_LENGTHS = (3, 17, 40, 64, 90, 128)

log = logging.getLogger(__name__)


def cosine(weights: Sequence[tuple[str, Path]], exact: Callable[[], Model], other: Model) -> float:
    """Return the least cosine between vectors of `other` and of float32 over a fixed set of random rows.

    `exact` makes the float32 model; it is called only when these files were not measured before.
    """
    note = file_state.mark(weights, "exactness", f"{__version__}-{other.dtype}-{other.instruction_set}")
    try:
        return float(note.read_text())
    except (OSError, ValueError):  # not measured yet, or half a note: it is written anew
        log.debug("measuring how exact %s is", other.dtype)
    random = np.random.default_rng(0)
    ids = random.integers(0, other.vocab_size, sum(_LENGTHS)).astype(np.uint32)
    rows = np.split(ids, np.cumsum(_LENGTHS)[:-1])
    found = float(np.min(cosines(exact().run(*packed(rows)), other.run(*packed(rows)))))
    file_state.write(note, repr(found))
    return found
