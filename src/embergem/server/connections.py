"""uvicorn's protocols with an eye on clients that take their time, say too much, or are too many.

uvicorn itself waits for ever for the rest of a request that comes a byte at a time, and for a client that does not read
its answer; one of its two parsers takes headers of any size; and it counts a connection that never said anything like
one that is at work.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
import msgspec

from embergem.protocol import ErrorBody, ErrorResponse
from embergem.server.access_log import new_id
from embergem.server.call import Notes
from embergem.server.errors import kind_of

log = logging.getLogger(__name__)

STALLED = 30.0
"""Seconds after which a client that has taken nothing more of its answer is given up."""

Refused = Callable[[Notes, str, int, int], None]
"""Told of each request that was refused before it was one: its notes, the client, the status, bytes of the answer."""


def careful(
    base: type[Any], *, seconds: float, header_bytes: int, connections: int, refused: Refused
) -> type[asyncio.Protocol]:
    """Return the protocol `base` of uvicorn with limits: for receiving and sending, for headers, and for connections.

    `seconds` is an absolute deadline for a request to be whole, from its first byte on. Where `connections` are open
    the one that has been idle longest makes room for a new one. Until the head of a request is whole it is idle still:
    a client at work sends a head in one go, and who does not could hold a place for `seconds` with a single byte.
    """
    idle: dict[Any, None] = {}  # connections without a request, in the order in which they became so

    class Careful(base):  # type: ignore[misc]
        timeout_keep_alive_task: asyncio.TimerHandle | None
        late: asyncio.TimerHandle | None = None
        stuck: asyncio.TimerHandle | None = None
        inside = False  # only httptools calls what sets it
        head = 0  # bytes of a head that has begun
        counted: Any = None  # the request that came before that head

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > connections and not self.make_room():
                self.connections.discard(self)
                message = f"{connections} connections are open and each is at work; ask again later"
                self.refuse(503, message, "too_many_connections", "retry-after: 1")
                return
            idle[self] = None
            self.arm()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            self.arm()
            before = self.in_head()
            super().data_received(data)
            if not self.in_head() or self.cycle is not self.counted:
                self.head, self.counted = 0, self.cycle
            elif before:
                self.head += len(data)
            if self.head > header_bytes:
                self.refuse(431, f"the headers have more than {header_bytes} bytes", "headers_too_large")
            self.watch()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self.inside = True

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self.inside = False

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.await_reader()
            self.watch()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.await_reader()

        def resume_writing(self) -> None:
            super().resume_writing()
            self.await_reader()

        def connection_lost(self, exc: Exception | None) -> None:
            idle.pop(self, None)
            self.disarm()
            if self.stuck is not None:
                self.stuck.cancel()
            super().connection_lost(exc)

        def in_body(self) -> bool:
            """Whether the head of a request is complete and its body is not, answered or not."""
            return self.conn.their_state is h11.SEND_BODY if hasattr(self, "conn") else self.inside

        def in_head(self) -> bool:
            """Whether what comes next is the head of a request; h11 may keep what it will read after an answer."""
            return self.conn.their_state is h11.IDLE if hasattr(self, "conn") else not self.inside

        def answering(self) -> bool:
            """Whether it is the client who waits."""
            if getattr(self, "pipeline", None):
                return True
            cycle = self.cycle
            return cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body)

        def watch(self) -> None:
            """Decide who waits for whom, after anything that may have changed it."""
            if self.transport.is_closing() or self.answering():
                idle.pop(self, None)
                self.disarm()
            elif self.in_body():
                idle.pop(self, None)
                self.arm()
            elif self.head:
                idle[self] = None  # it keeps its place: a byte now and then makes it no younger
                self.arm()
            else:
                idle[self] = None
                if self.cycle is not None:
                    self.disarm()
                    if self.timeout_keep_alive_task is None:  # uvicorn forgets it when the rest of a body comes late
                        self.timeout_keep_alive_task = self.loop.call_later(
                            self.timeout_keep_alive, self.timeout_keep_alive_handler
                        )

        def arm(self) -> None:
            if self.late is None:
                self.late = self.loop.call_later(seconds, self.on_late)

        def disarm(self) -> None:
            if self.late is not None:
                self.late.cancel()
                self.late = None

        def on_late(self) -> None:
            self.late = None
            if self.head or (self.in_body() and not self.cycle.response_complete):
                self.refuse(408, f"the request did not arrive within {seconds:g} s", "request_timeout")
            else:
                self.transport.close()  # nobody is waiting for an answer

        def await_reader(self) -> None:
            """Expect the client to take something of what it was sent."""
            if self.stuck is not None:
                self.stuck.cancel()
            size = self.transport.get_write_buffer_size()
            self.stuck = self.loop.call_later(STALLED, self.on_stuck, size) if size else None

        def on_stuck(self, before: int) -> None:
            size = self.transport.get_write_buffer_size()
            if size < before:
                self.await_reader()
                return
            log.warning("%s has read nothing for %g s; %d bytes are dropped", self.address(), STALLED, size)
            self.transport.abort()

        def make_room(self) -> bool:
            """Close the connection that has been idle longest; tell whether there was one."""
            for one in idle:
                if not one.transport.get_write_buffer_size():  # else it would not close before its client has read
                    del idle[one]
                    self.connections.discard(one)
                    one.transport.close()
                    return True
            return False

        def send_400_response(self, msg: str) -> None:
            self.refuse(400, msg, "invalid_http")

        def refuse(self, status: int, message: str, code: str, *headers: str) -> None:
            """Answer in the shape of all other errors, and hang up."""
            if self.transport.is_closing():
                return
            if self.answering():  # this would end up in the answer to the request before
                self.transport.close()
                return
            waiting = self.cycle is not None and not self.cycle.response_complete
            notes = (waiting and self.cycle.scope.get("embergem.notes")) or Notes(request_id=new_id())
            notes.code = code
            error = ErrorResponse(ErrorBody(message=message, type=kind_of(status), param=None, code=code))
            body = msgspec.json.encode(error)
            lines = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                f"x-request-id: {notes.request_id}",
                *headers,
                "connection: close",
            )
            self.transport.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)
            self.transport.close()
            self.await_reader()
            refused(notes, self.address(), status, len(body))

        def address(self) -> str:
            return self.client[0] if self.client else "-"

    return Careful
