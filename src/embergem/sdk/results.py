"""Collects the results of a call's chunks into one array, and warns about truncated inputs."""

import sys
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from embergem.errors import TruncationWarning
from embergem.sdk.backend import EmbeddingResult
from embergem.types import Vectors


class ResultCollector:
    """Collects results, each for some inputs of a call; `limit` is the model's token limit, for the warning."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[tuple[Sequence[int], Vectors]] = []
        self._count = 0
        self._truncated: dict[int, int | None] = {}

    def add(self, places: Sequence[int], result: EmbeddingResult) -> None:
        """Add the result for the inputs at `places` in the call."""
        self._parts.append((places, result.vectors))
        self._count += len(places)
        self._truncated |= {places[index]: result.rows[index].length for index in result.truncated}

    def vectors(self) -> Vectors:
        """Return all vectors in the order of the inputs; warns once if inputs were truncated."""
        if self._truncated:
            warn_truncated(self._truncated, self._count, self._limit)
        first = self._parts[0][1]
        if len(self._parts) == 1:
            return first
        vectors = np.empty((self._count, first.shape[1]), dtype=np.float32)
        for places, part in self._parts:
            vectors[places] = part
        return vectors


def vectors_of(result: EmbeddingResult, limit: int) -> Vectors:
    """Return the vectors of a call that was one chunk; warns if inputs were truncated. `limit` is the token limit."""
    if result.truncated:
        warn_truncated({index: result.rows[index].length for index in result.truncated}, len(result.vectors), limit)
    return result.vectors


def warn_truncated(lengths: Mapping[int, int | None], count: int, limit: int) -> None:
    """Warn about truncated inputs at the line of the caller's code that called embergem.

    Args:
        lengths: Tokens of each truncated input before truncation, by its index in the call; None where unknown.
        count: Number of inputs of the call.
        limit: Most tokens of an input.
    """
    indices = sorted(lengths)
    known = [length for index in indices if (length := lengths[index]) is not None]
    warnings.warn(
        f"{len(indices)} of {count} inputs were cut to the limit of {limit} tokens: indices {_shorten(indices)}"
        + (f" of {_shorten(known)} tokens" if known else ""),
        TruncationWarning,
        stacklevel=caller_stacklevel(),
    )


def caller_stacklevel() -> int:
    """Return the `stacklevel` for `warnings.warn` that names the nearest caller outside embergem."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "embergem":
        frame, level = frame.f_back, level + 1
    return level


def _shorten(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8])
    return shown + (f", and {len(numbers) - 8} more" if len(numbers) > 8 else "")
