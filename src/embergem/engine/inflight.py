"""Who waits for which rows, and which of these are queued or in work. A plain class: no threads, all under one lock."""

from collections.abc import Callable, Sequence

from embergem._native import CancelToken
from embergem.engine.bisect import Batch, Outcome, blamed
from embergem.engine.known import Known
from embergem.engine.scheduler import Scheduler
from embergem.engine.stats import Counters
from embergem.engine.work import Cell, Work, deliver, waiting_on
from embergem.types import Lane, Vectors


class Ledger:
    """What a loop has taken and not answered yet. Each row is queued or in work, or nobody waits for it.

    Attributes:
        working: The batch that each lane has in work; who takes one out of it answers those who wait for it.
    """

    def __init__(
        self, scheduler: Scheduler[Cell], known: Known, counters: Counters, clock: Callable[[], float]
    ) -> None:
        self.working: dict[Lane, Batch] = {}
        self._scheduler = scheduler
        self._known = known
        self._counters = counters
        self._clock = clock

    def enter(self, work: Work, joined: Sequence[tuple[Cell, int]], new: Sequence[Cell]) -> None:
        """Put a request down: rows that others have in work, to wait for as well, and rows of its own to queue."""
        work.cells = [*new, *(cell for cell, _ in joined)]  # first: an interrupt may come before the rest is done
        for cell, index in joined:
            cell.waiters.append((work, index))
        for cell in new:
            self._known.begin(cell)
        if new:
            rows = [(cell, len(cell.ids)) for cell in new]
            items = self._scheduler.add(rows, lane=new[0].lane, tenant=work.tenant, deadline=work.deadline)
            for cell, item in zip(new, items, strict=True):
                cell.item = item
        work.missing = len(work.vectors) - len(work.cached)

    def take(self, lane: Lane, caller: Work | None = None) -> Batch | None:
        """Take the next batch of a lane where none is in work; None where nothing waits."""
        if lane in self.working or not (items := self._scheduler.next_batch(lane)):
            return None
        now = self._clock()
        self._counters.left_queue(lane, len(items), sum(now - item.since for item in items))
        batch = self.working[lane] = Batch(CancelToken(), [item.owner for item in items], caller)
        return batch

    def expire(self) -> tuple[list[Work], bool]:
        """Drop rows whose deadline has passed; return the requests to fail.

        Who else waits for a row keeps it: it is queued anew, and the second value says whether any was.
        """
        now = self._clock()
        late: dict[int, Work] = {}
        moved = False
        for cell in self._scheduler.expire():
            gone = [work for work, _ in cell.waiters if work.deadline is not None and work.deadline <= now]
            late |= {id(work): work for work in gone}
            if rest := [work for work, _ in cell.waiters if work not in gone]:
                deadlines = [work.deadline for work in rest if work.deadline is not None]
                deadline = max(deadlines) if len(deadlines) == len(rest) else None
                [cell.item] = self._scheduler.add(
                    [(cell, len(cell.ids))], lane=cell.lane, tenant=rest[0].tenant, deadline=deadline
                )
                moved = True
            else:
                self._known.end(cell)  # it will not be computed: whoever asks for it next must not wait for it
        return list(late.values()), moved

    def concerned(self, batch: Batch, outcome: Outcome) -> list[Work]:
        """Return the requests that wait for a batch, those of the same rows in the other lane included."""
        return waiting_on([*batch.cells, *(twin for twin, _ in self._known.twins(outcome.cells))])

    def settle(self, lane: Lane, outcome: Outcome, vectors: Vectors) -> tuple[list[Work], list[tuple[Work, Exception]]]:
        """End the batch of a lane; return the requests that are complete with it, and those that fail, with the reason.

        `vectors` are those of the outcome's cells. Nobody is told yet: that is not done under a lock.
        """
        settled = self._known.keep(outcome.cells, vectors)
        for cell, _ in settled:
            self._forget(cell)
        complete = deliver(settled, vectors)
        failed = [each for cells, reason in outcome.spoilt for each in self._give_up(cells, reason)]
        del self.working[lane]
        return complete, failed

    def leave(self, works: Sequence[Work]) -> None:
        """Take requests that were cancelled or failed out of everything."""
        gone = set(map(id, works))
        for cell in {id(cell): cell for work in works for cell in work.cells}.values():
            cell.waiters = [waiter for waiter in cell.waiters if id(waiter[0]) not in gone]
            if not cell.waiters and cell.item is not None and cell.item.waiting:
                self._forget(cell)
        for batch in self.working.values():
            if not any(cell.waiters for cell in batch.cells):
                batch.token.cancel()
                for cell in batch.cells:  # nobody is to join what will not come
                    self._forget(cell)

    def lost(self, lane: Lane, work: Work, reason: Exception) -> list[Cell]:
        """Hand over the batch of a caller that will not finish it, and return what rows are nowhere now."""
        batch = self.working.get(lane)
        mine = batch if batch is not None and batch.caller is work and batch.outcome is None else None
        if mine is not None:
            mine.outcome = Outcome(spoilt=[(mine.cells, reason)])
        known = {id(cell) for each in self.working.values() for cell in each.cells}
        known |= {id(cell) for cell in work.cells if cell.item is not None and cell.item.waiting}
        lost = [cell for cell in work.cells if id(cell) not in known]
        for cell in lost if mine is None else [*lost, *mine.cells]:  # nobody is to join what will not come
            self._forget(cell)
        return lost

    def rest(self, lane: Lane) -> Sequence[Cell]:
        """Take rows that nobody will compute, or give out: those a caller's thread has in work, and those queued."""
        if (batch := self.working.pop(lane, None)) is not None:
            return batch.cells
        return [item.owner for item in self._scheduler.next_batch(lane)]

    def _give_up(self, cells: Sequence[Cell], reason: Exception) -> list[tuple[Work, Exception]]:
        """Return the requests that wait for rows which will not be computed, with what to tell them."""
        for cell in cells:
            self._forget(cell)
        return blamed(cells, reason)

    def _forget(self, cell: Cell) -> None:
        """Nobody waits for this row any more, or its vector is there."""
        if cell.item is not None:
            self._scheduler.drop(cell.item)
        self._known.end(cell)
