"""Runs a batch; if its vectors are not finite, bisects it so that only the request at fault fails.

A batch has rows of several requests. A request whose vectors are finite is not failed by the rows beside it.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from embergem._native import CancelToken
from embergem.engine.pending import PendingRequest, PendingRow, waiting_requests
from embergem.errors import NonFiniteOutput, without_panic
from embergem.types import Lane, Vectors


class Outcome(msgspec.Struct, eq=False):
    """The outcome of a batch.

    Attributes:
        rows, vectors: Computed rows and their vectors `(rows, full size)`; None without such rows.
        failed: Rows that have no vector, with the error.
    """

    rows: Sequence[PendingRow] = ()
    vectors: Vectors | None = None
    failed: list[tuple[Sequence[PendingRow], Exception]] = []


class Batch(msgspec.Struct, eq=False):
    """Rows that are computed together.

    Attributes:
        lane: Their lane.
        rows: The rows.
        started_at, ended_at: When the batch started, and when its last native call ended, in seconds of the loop's
            clock.
        caller: The request on whose submitting thread the batch is computed; None on the lane's thread.
        cancel: Stops the batch at its next step.
        outcome: The outcome of a batch that a submitting thread computed and the lane's thread has to settle.
        runs, tokens, seconds: Completed native calls, their tokens, and the time they took.
    """

    lane: Lane
    rows: Sequence[PendingRow]
    started_at: float
    caller: PendingRequest | None = None
    cancel: CancelToken = msgspec.field(default_factory=CancelToken)
    outcome: Outcome | None = None
    runs: int = 0
    tokens: int = 0
    seconds: float = 0.0
    ended_at: float = 0.0

    @property
    def row_count(self) -> int:
        """Number of rows, those of segments counted one by one."""
        return sum([row.count for row in self.rows])


Run = Callable[[Batch, Sequence[PendingRow]], Vectors]
"""Runs some rows of a batch and returns their vectors `(rows, full size)`."""


def compute(batch: Batch, rows: Sequence[PendingRow], run: Run) -> Outcome:
    """Run rows of a batch. If a vector is not finite, run each half again, until all rows of a half have one request.

    A half may also have rows that the same several requests wait for, or that no request waits for any more. A batch
    of one request is not computed twice. Every other error fails all of the rows.

    Raises:
        BaseException: Only what is not an `Exception`: KeyboardInterrupt on the thread of a caller.
    """
    try:
        return Outcome(rows, run(batch, rows))
    except BaseException as error:
        reason = without_panic(error)
        if not isinstance(reason, Exception):
            raise
        if not isinstance(reason, NonFiniteOutput) or _of_one_request(rows):
            return Outcome(failed=[(rows, reason)])
    half = len(rows) // 2
    first, second = compute(batch, rows[:half], run), compute(batch, rows[half:], run)
    arrays = [outcome.vectors for outcome in (first, second) if outcome.vectors is not None]
    vectors = np.concatenate(arrays) if arrays else None
    return Outcome([*first.rows, *second.rows], vectors, first.failed + second.failed)


def errors_by_request(rows: Sequence[PendingRow], error: Exception) -> list[tuple[PendingRequest, Exception]]:
    """Return each request that waits for a failed row, with its error.

    `NonFiniteOutput.row` counts within the batch. The error for the request of that row names the index of its input.
    """
    requests = waiting_requests(rows)
    if not isinstance(error, NonFiniteOutput) or error.row is None:
        return [(request, error) for request in requests]
    first_bad: dict[PendingRequest, int] = {}
    place = error.row
    for row in rows:
        if place < row.count:
            for request, index in row.waiters:
                first_bad[request] = min(index + place, first_bad.get(request, index + place))
            break
        place -= row.count
    return [(request, _of_input(first_bad[request]) if request in first_bad else error) for request in requests]


def _of_one_request(rows: Sequence[PendingRow]) -> bool:
    return len({frozenset(request for request, _ in row.waiters) for row in rows}) <= 1


def _of_input(index: int) -> NonFiniteOutput:
    return NonFiniteOutput("gave a vector that is not finite. No vectors were returned.", input_index=index)
