"""`LineRetries`: answers the lines of one batch, however often each has to be tried, and knows what they wait for."""

import asyncio
import logging
from typing import TYPE_CHECKING

from embergem.batch_protocol import BatchError
from embergem.server.batches.batch_records import BatchRecord
from embergem.server.batches.input_lines import LineRequest
from embergem.server.batches.line_answer import LineAnswer, Temporary, answer_line

if TYPE_CHECKING:
    from embergem.config import Key
    from embergem.server.state import ServerState

log = logging.getLogger("embergem.server")

RETRY_SECONDS = (0.25, 30.0)
"""Shortest and longest time until a line, or a write to the disk, is tried again."""


class LineRetries:
    """Answers the lines of one batch.

    While lines have no answer for a temporary reason, one of them tries again now and then, and the others wait.

    Args:
        state: The state of the server.
        record: The batch.

    Attributes:
        waiting: What the batch waits for; None while it goes on.
    """

    def __init__(self, state: "ServerState", record: BatchRecord) -> None:
        self.waiting: BatchError | None = None
        self._state = state
        self._record = record
        self._probing = asyncio.Lock()
        self._answered = 0
        self._logged: set[str] = set()

    def wait_for(self, reason: BatchError) -> None:
        """Note what the batch waits for; log it the first time."""
        if reason.code not in self._logged:
            self._logged.add(reason.code)
            log.warning("%s waits: %s", self._record.id, reason.message)
        self.waiting = reason

    def go_on(self) -> None:
        """Note that the batch waits no longer, unless a line waits for its next try."""
        if not self._probing.locked():
            self.waiting = None

    async def answer(self, number: int, request: LineRequest) -> LineAnswer:
        """Answer a line, which has this number in the input."""
        await self._state.pacer.turn()
        while True:
            answered = self._answered
            try:
                return await self._try(number, request)
            except Temporary as failure:
                reason = failure
            seconds = RETRY_SECONDS[0]
            async with self._probing:
                while self._answered == answered:
                    self.wait_for(reason.reason)
                    await asyncio.sleep(min(reason.seconds or seconds, RETRY_SECONDS[1]))
                    seconds *= 2
                    try:
                        found = await self._try(number, request)
                    except Temporary as failure:
                        reason = failure
                    else:
                        self.waiting = None
                        return found
                self.waiting = None

    async def _try(self, number: int, request: LineRequest) -> LineAnswer:
        found = await answer_line(self._state, self._key(), self._record.id, number, request)
        self._answered += 1
        return found

    def _key(self) -> "Key | None":
        """Return the API key of the owner.

        Raises:
            Temporary: The owner has none at present.
        """
        keys, owner = self._state.keys, self._record.owner
        key = keys.named(owner) if owner else None
        if key is None and (owner or not keys.open):
            message = "The API key that created the batch was removed from the server. The batch waits for its return."
            raise Temporary(BatchError("api_key_removed", message), RETRY_SECONDS[1])
        return key
