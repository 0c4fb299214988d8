"""`BatchRun`: the work on one batch. Lines are read, answered at the same time, and stored in the order of the input.

A run goes on where the last stored line ends, so it may stop at any time: when the process is killed, the lines after
that one are answered again, to the same bytes.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from embergem.batch_protocol import BatchError
from embergem.server.batches.batch_records import RESULTS_LOST, BatchRecord, OwnerLimits, ResultsLost, StorageFailed
from embergem.server.batches.batch_store import BatchStore
from embergem.server.batches.input_lines import (
    OVERHEAD,
    Line,
    LineError,
    LineReader,
    LineRequest,
    check_lines,
    decode_line,
)
from embergem.server.batches.line_answer import LineAnswer, encode_answer, encode_unanswered
from embergem.server.batches.line_retries import RETRY_SECONDS, LineRetries
from embergem.server.prompt_choice import split_task

if TYPE_CHECKING:
    from embergem.server.state import ServerState

log = logging.getLogger("embergem.server")

PART_SECONDS = 1.0
"""Time after which answered lines are stored."""

PART_BYTES = 4 * 2**20
"""Bytes of results after which they are stored."""

WINDOW_LINES = 256
"""Most lines of all batches that are answered at the same time."""

WINDOW_BYTES = 64 * 2**20
"""Memory of these lines and of their results, as `estimate` finds it. A line alone may have more."""

RESULT_BYTES = 16 * 1024
"""Estimated bytes of the result of one input: a vector of 768 numbers as JSON."""

EXPIRED = "This request could not be executed before the completion window expired."


class Interrupted(Exception):
    """The run was interrupted. The lines that were answered in order are stored."""


class Ended(Exception):
    """The batch cannot go on: a model has another vector space than before, or the input was changed on the disk."""

    def __init__(self, error: BatchError) -> None:
        super().__init__(error.message)
        self.error = error


class Part:
    """Answered lines that are not stored yet."""

    def __init__(self) -> None:
        self.output: list[bytes] = []
        self.errors: list[bytes] = []
        self.bytes = 0
        self.tokens = 0
        self.end: Line | None = None
        self._since = 0.0

    def add(self, line: Line, result: bytes, *, success: bool, tokens: int = 0) -> None:
        """Add a line with its result."""
        if not self.bytes:
            self._since = time.monotonic()
        self.end = line
        (self.output if success else self.errors).append(result)
        self.bytes += len(result)
        self.tokens += tokens

    @property
    def due(self) -> float:
        """Seconds until the part is to be stored."""
        return 0.0 if self.bytes >= PART_BYTES else max(0.0, self._since + PART_SECONDS - time.monotonic())


class _Pending:
    """A line whose answer is not in a part yet. A blank line has no request and no task."""

    def __init__(
        self, line: Line, request: LineRequest | None, task: "asyncio.Task[LineAnswer] | None", cost: int
    ) -> None:
        self.line = line
        self.request = request
        self.task = task
        self.cost = cost


class BatchRun:
    """The work on one batch.

    Args:
        store: Where the batch is.
        record: The batch.
        state: The state of the server.
        limits: Returns what the owner may have.
        share: Returns the share of the window that this run may use, from 0 to 1.
        now: Returns seconds since 1970, for what is recorded.
        steady: Returns them for what has expired; see `SteadyClock`.
        passes: Bounds how many inputs are read from end to end at the same time.

    Attributes:
        record: As given.
    """

    def __init__(
        self,
        store: BatchStore,
        record: BatchRecord,
        state: "ServerState",
        limits: Callable[[], OwnerLimits],
        share: Callable[[], float],
        now: Callable[[], float],
        steady: Callable[[], float],
        passes: asyncio.Semaphore,
    ) -> None:
        self.record = record
        self._lines = LineRetries(state, record)
        self._store = store
        self._state = state
        self._limits = limits
        self._share = share
        self._now = now
        self._steady = steady
        self._passes = passes
        self._closing = False
        self._interrupted = asyncio.Event()
        self._cost = 0  # of the lines that are answered at present
        self._max_line = state.settings.max_body + OVERHEAD

    @property
    def waiting(self) -> BatchError | None:
        """Why the batch does not go on at the moment."""
        return self._lines.waiting

    def interrupt(self) -> None:
        """Make the run look at the state of the batch and at the time again, because one of them has changed."""
        self._interrupted.set()

    def close(self) -> None:
        """Make the run end soon. Its answered lines are stored."""
        self._closing = True
        self._interrupted.set()

    async def run(self) -> None:
        """Work on the batch until it is finished, or was only checked, or the run is closed."""
        seconds = RETRY_SECONDS[0]
        while not self._closing:
            self._interrupted.clear()
            try:
                await self._advance()
                return
            except Interrupted:
                continue
            except FileNotFoundError:
                await self._fail(BatchError("input_file_missing", "The content of the input file was lost."))
                return
            except (Ended, LineError) as ended:  # the lines were checked, so one that is wrong was changed on the disk
                await self._fail(ended.error)
                return
            except ResultsLost:
                await self._fail(RESULTS_LOST)
                return
            except StorageFailed as error:
                self._lines.wait_for(BatchError(error.code, error.message))
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._interrupted.wait(), seconds)
            seconds = min(2 * seconds, RETRY_SECONDS[1])

    async def _advance(self) -> None:
        """Do what is next for the batch.

        Raises:
            Interrupted, FileNotFoundError, Ended, LineError, StorageFailed: The batch cannot go on as it is.
        """
        record = self.record
        if record.status == "validating":
            async with self._passes:
                await self._store.on_thread(self._check)
            return
        if record.status == "in_progress":
            if self._steady() < record.expires_at:
                await self._compute()
                if record.completed + record.failed < record.total:
                    raise Ended(
                        BatchError(
                            "input_file_changed",
                            f"The input file has {record.completed + record.failed:,} requests now, and had "
                            f"{record.total:,}: it was changed on the disk of the server.",
                        )
                    )
                if not await self._store_call("advance", "in_progress", "finalizing"):
                    raise Interrupted
            else:
                async with self._passes:
                    await self._store.on_thread(self._expire)
                if not await self._store_call("finish", "in_progress", "expired"):
                    raise Interrupted
        if record.status == "finalizing":
            await self._store_call("finish", "finalizing", "completed")
        elif record.status == "cancelling":
            await self._store_call("finish", "cancelling", "cancelled")
        log.info(
            "%s is %s: %d of %d requests have a result, and %d an error.",
            record.id, record.status, record.completed, record.total, record.failed,
        )  # fmt: skip

    async def _store_call(self, name: str, *values: Any) -> bool:
        """Call `BatchStore.advance` or `finish` on a thread."""
        call: Callable[..., bool] = getattr(self._store, name)
        return await self._store.on_thread(call, self.record, *values, int(self._now()))

    async def _fail(self, error: BatchError) -> None:
        log.error("%s has failed: %s", self.record.id, error.message)
        now = int(self._now())
        await self._store.on_thread(self._store.finish, self.record, self.record.status, "failed", now, [error])

    def _check(self) -> None:
        """Check all lines. This takes some seconds for a large file."""
        record, state = self.record, self._state
        known = {*state.known_names(), "default"}

        def fault(name: str) -> str | None:
            if split_task(name, known)[0] in known:
                return None
            return f"The model {name[:80]!r} does not exist. The models are: {', '.join(state.main_names())}."

        with self._open() as reader:
            found = check_lines(self._all_lines(reader), record.endpoint, self._max_line, fault)
        now = int(self._now())
        if found.errors:
            self._store.finish(record, "validating", "failed", now, found.errors)
        else:
            self._store.advance(record, "validating", "in_progress", now, total=found.requests, model=found.model)

    def _all_lines(self, reader: LineReader) -> Iterator[Line]:
        """Iterate over all lines, until the run is closed or the batch is cancelled."""
        status = self.record.status
        for line in reader:
            if self._closing or self.record.status != status:
                raise Interrupted
            yield line

    def _open(self) -> LineReader:
        """Open the input behind the last line that has an answer.

        Raises:
            FileNotFoundError: It is not there any more.
        """
        record = self.record
        return LineReader(self._store.path(record.input_file_id), self._max_line, record.lines, record.offset)

    async def _compute(self) -> None:
        """Answer the lines that have no answer yet, and store the answers.

        Raises:
            Interrupted: The run was interrupted.
        """
        interrupted = asyncio.ensure_future(self._interrupted.wait())
        pending: deque[_Pending] = deque()
        self._cost = 0
        part = Part()
        try:
            with await self._store.on_thread(self._open) as reader:
                ahead: deque[Line] = deque()
                while True:
                    if not ahead:
                        ahead.extend(await self._store.on_thread(reader.read))
                    self._start(ahead, pending)
                    if not pending:
                        break
                    if (task := pending[0].task) is not None and not task.done():
                        timeout = part.due if part.end else None
                        await asyncio.wait({task, interrupted}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                    if self._interrupted.is_set():
                        raise Interrupted
                    self._collect(pending, part)
                    if part.end is not None and part.due == 0.0:
                        stored, part = part, Part()
                        await self._save(stored)
            await self._save(part)
        except (Interrupted, Ended, LineError):
            await self._save(part)
            raise
        finally:
            interrupted.cancel()
            tasks = [one.task for one in pending if one.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, ahead: "deque[Line]", pending: "deque[_Pending]") -> None:
        """Start to answer the next lines, as many as fit into the share of this run."""
        share = self._share()
        while ahead and len(pending) < max(1, WINDOW_LINES * share):
            line = ahead[0]
            cost = estimate(line.content)
            if pending and self._cost + cost > WINDOW_BYTES * share:
                break
            ahead.popleft()
            request = task = None
            if line.content:
                request = decode_line(line, self.record.endpoint, self._max_line)
                task = asyncio.ensure_future(self._lines.answer(line.number, request))
            pending.append(_Pending(line, request, task, cost))
            self._cost += cost

    def _collect(self, pending: "deque[_Pending]", part: Part) -> None:
        """Move the answers that are next in order into a part."""
        record = self.record
        while pending and ((task := pending[0].task) is None or task.done()) and part.bytes < PART_BYTES:
            line, request = pending[0].line, pending[0].request
            if task is None or request is None:
                part.end = line
            else:
                found = task.result()
                known = record.spaces.setdefault(found.model, found.space) if found.space else ""
                if known != found.space:
                    raise Ended(
                        BatchError(
                            "model_changed",
                            f"The model {found.model!r} was replaced by one with another vector space, so the other "
                            "requests were not computed. The results so far are those of the earlier model.",
                            line.number,
                        )
                    )
                result = encode_answer(record.id, line.number, request.custom_id, found)
                part.add(line, result, success=found.status < 400, tokens=found.tokens)
            self._cost -= pending.popleft().cost

    async def _save(self, part: Part) -> None:
        """Store a part.

        Raises:
            StorageFailed: It could not be stored, or the owner has too many bytes.
        """
        if part.end is None:
            return
        limit = self._limits().bytes
        if self._store.used(self.record.owner) + part.bytes > limit:
            raise QuotaReached(
                f"The results do not fit: your files may have {limit:,} bytes. Delete files that you no longer need, "
                "and the batch goes on."
            )
        await self._store.on_thread(self._append, part)
        self._lines.go_on()
        counts = self._state.metrics.batch_requests
        counts["completed"] += len(part.output)
        counts["failed"] += len(part.errors)

    def _append(self, part: Part) -> None:
        record, end = self.record, part.end
        assert end is not None
        self._store.append(
            record,
            b"".join(part.output),
            b"".join(part.errors),
            lines=end.number,
            offset=end.end,
            completed=record.completed + len(part.output),
            failed=record.failed + len(part.errors),
            tokens=record.tokens + part.tokens,
            spaces=record.spaces,
        )

    def _expire(self) -> None:
        """Give every line without an answer the error that the batch has expired."""
        record = self.record
        part = Part()
        with self._open() as reader:
            for line in self._all_lines(reader):
                if line.content:
                    request = decode_line(line, record.endpoint, self._max_line)
                    result = encode_unanswered(record.id, line.number, request.custom_id, "batch_expired", EXPIRED)
                    part.add(line, result, success=False)
                if part.bytes >= PART_BYTES:
                    self._append(part)
                    part = Part()
        if part.end is not None:
            self._append(part)


class QuotaReached(StorageFailed):
    """The results of a batch do not fit into what its owner may have."""

    code = "quota_exceeded"


def estimate(line: bytes) -> int:
    r"""Return the bytes of memory that a line and its result may take, from the number of strings and lists in it.

    >>> estimate(b'{"input": ["a", "b"]}') < estimate(b'{"input": ["a", "b", "c"]}')
    True
    """
    return 2 * len(line) + RESULT_BYTES * (line.count(b'"') // 2 + line.count(b"["))
