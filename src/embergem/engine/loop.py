"""The engine's thread: takes batches from the scheduler, runs them, and gives the vectors back to their requests."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from embergem._native import CancelToken
from embergem.engine.request import Ids, Row, Vectors
from embergem.engine.scheduler import Item, Scheduler
from embergem.errors import Cancelled, EngineClosed

Compute = Callable[[Ids, Ids, CancelToken], Vectors]
"""(ids, cu_seqlens, cancel) -> (rows, dimensions); raises `Cancelled` when the token was set."""


@dataclass(slots=True, eq=False)
class Job:
    """One request in work."""

    rows: Sequence[Row]
    future: "Future[Vectors]" = field(default_factory=Future)
    vectors: Vectors | None = None
    missing: int = 0


class Loop:
    """Runs jobs on a thread of its own until closed. Safe from many threads.

    A job whose future is cancelled leaves the queue; a batch in work is stopped at its next step once all of its jobs
    are cancelled.
    """

    def __init__(self, compute: Compute, dimensions: int, max_batch_tokens: int, name: str) -> None:
        self._compute = compute
        self._dimensions = dimensions
        self._scheduler: Scheduler[Job] = Scheduler(max_batch_tokens)
        self._changed = threading.Condition()
        self._closed = False
        self._working: list[Job] = []
        self._cancel = CancelToken()
        self._thread = threading.Thread(target=self._run, name=f"embergem {name}", daemon=True)
        self._thread.start()

    def submit(self, rows: Sequence[Row]) -> "Future[Vectors]":
        """Queue rows; the future gives their vectors in order."""
        job = Job(rows, missing=len(rows))
        job.future.add_done_callback(lambda _: self._forget(job))
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine was closed; make a new one")
            self._scheduler.add(job, rows)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Stop the thread; jobs that are not done fail with `EngineClosed`. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._cancel.cancel()
            self._changed.notify()
        self._thread.join()

    def _forget(self, job: Job) -> None:
        if not job.future.cancelled():
            return
        with self._changed:
            self._scheduler.drop(job)
            if self._working and all(other.future.cancelled() for other in self._working):
                self._cancel.cancel()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._working = []
                while not self._closed and not (batch := self._scheduler.next_batch()):
                    self._changed.wait()
                if self._closed:
                    break
                self._cancel = CancelToken()
                self._working = list({id(item.key): item.key for item in batch}.values())
            self._work(batch)
        self._fail_rest()

    def _work(self, batch: Sequence[Item[Job]]) -> None:
        batch = [item for item in batch if not item.key.future.cancelled()]
        if not batch:
            return
        ids = np.concatenate([item.row.ids for item in batch])
        cu_seqlens = np.cumsum([0, *(len(item.row.ids) for item in batch)]).astype(np.uint32)
        try:
            vectors = self._compute(ids, cu_seqlens, self._cancel)
        except Cancelled:
            if self._closed:
                self._fail(batch, EngineClosed("the engine was closed before the request was done"))
            return
        except Exception as error:  # whatever it is, it belongs to the callers, and the loop goes on
            self._fail(batch, error)
            return
        for item, vector in zip(batch, vectors, strict=True):
            self._deliver(item, vector)

    def _deliver(self, item: Item[Job], vector: Vectors) -> None:
        job = item.key
        if job.vectors is None:
            job.vectors = np.empty((len(job.rows), self._dimensions), dtype=np.float32)
        job.vectors[item.index] = vector
        job.missing -= 1
        if job.missing == 0 and job.future.set_running_or_notify_cancel():
            job.future.set_result(job.vectors)

    def _fail(self, batch: Sequence[Item[Job]], error: Exception) -> None:
        for job in {id(item.key): item.key for item in batch}.values():
            with self._changed:
                self._scheduler.drop(job)
            if not job.future.done() and job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)

    def _fail_rest(self) -> None:
        while batch := self._scheduler.next_batch():
            self._fail(batch, EngineClosed("the engine was closed before the request was done"))
