"""What is in work: a request with the vectors it has so far, and a row with all who wait for its vector."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from embergem.engine.request import Ids, Lane, Vectors
from embergem.engine.scheduler import Item

Finish = Callable[[Vectors, list[int]], Any]
"""(vectors, indices that were cached) -> the result of the request."""


@dataclass(slots=True, eq=False)
class Work:
    """One request: `vectors` (rows, dimensions) fills up, `missing` counts what is to come."""

    vectors: Vectors
    finish: Finish
    tenant: str = ""
    deadline: float | None = None
    future: "Future[Any]" = field(default_factory=Future)
    missing: int = 0
    cached: list[int] = field(default_factory=list)
    cells: "list[Cell]" = field(default_factory=list)

    def answer(self) -> None:
        """Give the result to whoever waits. Not under a lock: callbacks run here."""
        if self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.finish(self.vectors, self.cached))
            except Exception as error:
                self.future.set_exception(error)

    def fail(self, error: Exception) -> bool:
        """Give the error to whoever waits, and say whether somebody does. Not under a lock, as above."""
        if self.future.done() or not self.future.set_running_or_notify_cancel():
            return False
        self.future.set_exception(error)
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

    Returns the requests that are complete now.
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
        work.vectors[to] = vectors[source]
        work.missing -= len(to)
        if work.missing == 0:
            complete.append(work)
    return complete


def waiting_on(cells: Sequence[Cell]) -> list[Work]:
    """Return the requests that wait for any of these rows, each once."""
    return list({id(work): work for cell in cells for work, _ in cell.waiters}.values())
