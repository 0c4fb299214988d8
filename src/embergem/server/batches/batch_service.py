"""`BatchService`: files and batches of a server, and the task that works on the batches while the server runs."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from embergem.batch_protocol import BatchError
from embergem.config import Key, Settings
from embergem.errors import EmbergemError, UnsupportedOption
from embergem.server.batches.batch_records import BatchRecord, OwnerLimits
from embergem.server.batches.batch_run import BatchRun
from embergem.server.batches.batch_store import BatchStore
from embergem.server.batches.clock import SteadyClock

if TYPE_CHECKING:
    from embergem.server.state import ServerState

log = logging.getLogger("embergem.server")

TICK_SECONDS = 5.0
"""Longest time between two looks for expired files and batches."""

CHECKS = 2
"""Most inputs that are checked, or whose requests get the error that they have expired, at the same time."""


class BatchService:
    """Files and batches of a server.

    Of each API key one batch is computed at a time, the oldest one, and beside it those that wait for something.

    Args:
        store: The files and batches on the disk.
        settings: Settings of the server.
        now: Returns seconds since 1970; None is the clock of the machine.

    Attributes:
        store: As given.
        now: As given; for what is recorded.
        steady: Returns seconds since 1970, for what has expired; see `SteadyClock`.
    """

    def __init__(self, store: BatchStore, settings: Settings, now: Callable[[], float] | None = None) -> None:
        self.store = store
        self.now = now or time.time
        self.steady = now or SteadyClock()
        self._settings = settings
        self._state: ServerState | None = None
        self._runs: dict[str, tuple[BatchRun, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._passes = asyncio.Semaphore(CHECKS)
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None

    @classmethod
    def open(cls, settings: Settings) -> "BatchService | None":
        """Open the directory that the settings name; None if they name none.

        Raises:
            UnsupportedOption: Another server uses the directory, it cannot be used, or a package is missing.
        """
        if settings.batch_path is None:
            return None
        try:
            import python_multipart  # noqa: F401 - the routes need it
        except ImportError:
            raise UnsupportedOption(
                "--batch-path needs python-multipart. Install it with: pip install 'embergem[server]'",
                param="batch_path",
            ) from None
        return cls(BatchStore(Path(settings.batch_path).expanduser()), settings)

    def limits(self, key: Key | None) -> OwnerLimits:
        """Return what the owner of a key may have."""
        own_bytes = key.batch_bytes if key else None
        own_unfinished = key.batch_unfinished if key else None
        return OwnerLimits(
            self._settings.batch_bytes if own_bytes is None else own_bytes,
            self._settings.batch_unfinished if own_unfinished is None else own_unfinished,
        )

    def waiting(self, batch_id: str) -> BatchError | None:
        """Return why a batch does not go on at the moment."""
        found = self._runs.get(batch_id)
        return found[0].waiting if found else None

    def start(self, state: "ServerState") -> None:
        """Begin to work on the batches, on the event loop of the server."""
        self._state = state
        if self.store.unfinished:
            log.info("%d unfinished batches go on.", len(self.store.unfinished))
        self._worker = asyncio.get_running_loop().create_task(self._work(state))

    def notice(self, batch_id: str) -> None:
        """Take note of a batch that is new, or is to be cancelled."""
        if found := self._runs.get(batch_id):
            found[0].interrupt()
        self._wake.set()

    async def stop(self) -> None:
        """Stop the work. The lines that have an answer are stored; the next start goes on behind them."""
        # Not by cancelling the worker: `asyncio.wait_for` of Python 3.11 can swallow a cancellation.
        self._stopping = True
        self._wake.set()
        if self._worker is not None:
            await self._worker
        for run, _ in self._runs.values():
            run.close()
        await asyncio.gather(*(task for _, task in self._runs.values()), return_exceptions=True)

    def close(self) -> None:
        """Close the directory, so that another server may use it."""
        self.store.close()

    async def _work(self, state: "ServerState") -> None:
        swept_at = 0.0
        while not self._stopping:
            self._wake.clear()
            try:
                self._start_runs(state)
                if time.monotonic() >= swept_at + TICK_SECONDS:
                    swept_at = time.monotonic()
                    await self._sweep()
            except EmbergemError as error:
                log.error("Expired files could not be deleted: %s", error.message)
            if not self._stopping:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TICK_SECONDS)

    async def _sweep(self) -> None:
        """End the batches that have expired, and delete the files that have."""
        now = self.steady()
        for run, _ in self._runs.values():
            if now >= run.record.expires_at:
                run.interrupt()
        await self.store.on_thread(self.store.sweep, now, self._settings.batch_retention)

    def _start_runs(self, state: "ServerState") -> None:
        """Start a run for each batch whose turn it is."""
        now = self.steady()
        records = list(self.store.unfinished.values())
        busy = {
            run.record.owner for run, _ in self._runs.values() if run.record.status == "in_progress" and not run.waiting
        }
        checks = sum(run.record.status == "validating" for run, _ in self._runs.values())
        for record in records:
            if record.id in self._runs:
                continue
            if record.status == "validating":
                if checks == CHECKS:
                    continue
                checks += 1
            elif record.status == "in_progress" and now < record.expires_at:
                if record.owner in busy:
                    continue
                busy.add(record.owner)
            self._start_run(record, state)

    def _start_run(self, record: BatchRecord, state: "ServerState") -> None:
        run = BatchRun(
            self.store,
            record,
            state,
            limits=lambda: self.limits(state.keys.named(record.owner)),
            share=lambda: 1 / max(1, len(self._runs)),
            now=self.now,
            steady=self.steady,
            passes=self._passes,
        )
        task = asyncio.get_running_loop().create_task(run.run())
        self._runs[record.id] = run, task
        task.add_done_callback(lambda done: self._on_done(record.id, done))

    def _on_done(self, batch_id: str, task: "asyncio.Task[None]") -> None:
        del self._runs[batch_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("The work on %s failed, and is tried again in %g s.", batch_id, TICK_SECONDS, exc_info=error)
            return
        self._wake.set()
