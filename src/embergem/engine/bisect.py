"""A batch of several requests: what one of them spoils is found, so that the others have their vectors all the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from embergem._native import CancelToken
from embergem.engine.work import Cell, Work, waiting_on
from embergem.errors import NonFiniteOutput
from embergem.types import Vectors


@dataclass(slots=True)
class Outcome:
    """What came of a batch: rows and their vectors (n, dimensions), part by part, and rows with an error instead."""

    cells: list[Cell] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)
    spoilt: list[tuple[Sequence[Cell], Exception]] = field(default_factory=list)

    def stacked(self, dimensions: int) -> Vectors:
        """All vectors as one array (n, dimensions); that of an undivided batch as it is."""
        if len(self.vectors) == 1:
            return self.vectors[0]
        return np.concatenate([np.empty((0, dimensions), dtype=np.float32), *self.vectors])


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that are computed together.

    Attributes:
        token: Stops it.
        cells: The rows.
        caller: The request on whose caller's thread it is computed; None on the thread of its lane.
        outcome: What that thread has left to the lane's to give out.
    """

    token: CancelToken
    cells: Sequence[Cell]
    caller: Work | None = None
    outcome: Outcome | None = None


def compute_apart(compute: Callable[[Sequence[Cell]], Vectors], cells: Sequence[Cell]) -> Outcome:
    """Compute a batch; where the vectors are not finite, by halves, until what is not finite is of one request alone.

    It may be of several that wait for the very same rows, or of none any more. Nothing is computed twice of a batch
    that belongs to one request, or that is as it should be.
    """
    outcome = Outcome()
    parts = [cells]
    while parts:
        part = parts.pop()
        try:
            outcome.vectors.append(compute(part))
            outcome.cells += part
        except NonFiniteOutput as error:
            if len({frozenset(id(work) for work, _ in cell.waiters) for cell in part}) > 1:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
            else:
                outcome.spoilt.append((part, error))
    return outcome


def blamed(cells: Sequence[Cell], reason: Exception) -> list[tuple[Work, Exception]]:
    """Return who waits for these rows, each with the reason why they do not come, which names an input of theirs."""
    bad = cells[reason.row].waiters if isinstance(reason, NonFiniteOutput) and reason.row is not None else []
    first: dict[int, int] = {}
    for work, index in bad:
        first[id(work)] = min(index, first.get(id(work), index))
    return [(work, _of_input(first[id(work)]) if id(work) in first else reason) for work in waiting_on(cells)]


def _of_input(index: int) -> NonFiniteOutput:
    return NonFiniteOutput("gave a vector that is not finite. No vectors were returned.", input_index=index)
