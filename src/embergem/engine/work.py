"""What is in work: a request with the vectors it has so far, and a row with all who wait for its vector."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from embergem.engine.scheduler import Item
from embergem.errors import without_panic
from embergem.types import Ids, Lane, Vectors

Finish = Callable[[Vectors, list[int]], Any]
"""(vectors, indices that were cached) -> the result of the request."""


class Work(Future[Any]):
    """One request, and the future that its caller holds.

    Attributes:
        vectors: (rows, dimensions); they fill up.
        missing: How many are to come.
        cached: Indices of those that were known.
        cells: Rows that it waits for; empty once it is done.
        settled: Somebody is giving it its result or its error; read and set under the loop's lock.
    """

    def __init__(
        self,
        vectors: Vectors,
        finish: Finish,
        leave: "Callable[[Sequence[Work]], None]",
        *,
        tenant: str = "",
        deadline: float | None = None,
    ) -> None:
        super().__init__()
        self.vectors = vectors
        self.tenant = tenant
        self.deadline = deadline
        self.missing = 0
        self.cached: list[int] = []
        self.cells: list[Cell] = []
        self.settled = False
        self._finish = finish
        self._leave = leave

    def cancel(self) -> bool:
        """Cancel the request and take its rows out of the queue; False if it is done already."""
        cancelled = super().cancel()
        if cancelled:
            self._leave([self])
        return cancelled

    def answer(self) -> None:
        """Give the result to whoever waits. Not under a lock: callbacks run here."""
        self.cells = []
        if self.set_running_or_notify_cancel():
            try:
                result = self._finish(self.vectors, self.cached)
            except BaseException as error:
                reason = without_panic(error)
                self.set_exception(reason)
                if not isinstance(reason, Exception):  # Ctrl-C, on a caller's thread
                    raise
            else:
                self.set_result(result)

    def fail(self, error: Exception) -> bool:
        """Give the error to whoever waits, and say whether somebody does. Not under a lock, as above."""
        self.cells = []
        if self.done() or not self.set_running_or_notify_cancel():
            return False
        self.set_exception(error)
        return True


@dataclass(slots=True, eq=False)
class Cell:
    """One row to compute; requests that ask for the same ids meanwhile wait for it, too, as (request, index)."""

    ids: Ids
    lane: Lane
    key: bytes | None
    waiters: list[tuple[Work, int]]
    item: "Item[Cell] | None" = None


def deliver(cells: Iterable[tuple[Cell, int]], vectors: Vectors) -> list[Work]:
    """Copy vectors to all who wait for these cells, each given with its place among `vectors`.

    Returns the requests that are complete now; they are settled with that. Under the loop's lock.
    """
    places: dict[int, tuple[Work, list[int], list[int]]] = {}
    for cell, place in cells:
        for work, index in cell.waiters:
            _, to, source = places.setdefault(id(work), (work, [], []))
            to.append(index)
            source.append(place)
        cell.waiters = []
    complete = []
    for work, to, source in places.values():
        if len(to) == len(work.vectors) == len(vectors) and to == source:  # the batch is this request: nothing to copy
            work.vectors = vectors
        else:
            work.vectors[to] = vectors[source]
        work.missing -= len(to)
        if work.missing == 0 and not work.settled:
            work.settled = True
            complete.append(work)
    return complete


def waiting_on(cells: Sequence[Cell]) -> list[Work]:
    """Return the requests that wait for any of these rows, each once."""
    return list({id(work): work for cell in cells for work, _ in cell.waiters}.values())
