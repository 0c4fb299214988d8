"""Rows as the executor takes them, and the vectors of two runs held against each other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embergem.types import Ids

Floats = NDArray[np.float64]


def packed(rows: Sequence[Sequence[int] | Ids]) -> tuple[Ids, Ids]:
    """Rows as one batch: flat ids (t,) and offsets `cu_seqlens` (b + 1,).

    >>> packed([[5, 6], [7]])
    (array([5, 6, 7], dtype=uint32), array([0, 2, 3], dtype=uint32))
    """
    ids = np.concatenate([np.asarray(row, dtype=np.uint32) for row in rows])
    return ids, np.cumsum([0, *map(len, rows)]).astype(np.uint32)


def cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> Floats:
    """Cosine of each row of `a` with the same row of `b`, computed in float64; 0 for a row of zeros."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Floats = np.sum(a * b, axis=1) / np.maximum(lengths, 1e-300)
    return found
