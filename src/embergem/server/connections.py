"""Limits of client connections: slow clients, large headers, too many connections, and file descriptors.

uvicorn waits without a limit for the rest of a request that arrives a byte at a time, and for a client that does not
read its response. One of its two parsers accepts headers of any size. It counts idle connections like busy ones.
`limited_protocol` adds these limits to a protocol class of uvicorn.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import h11
import msgspec

from embergem.protocol import ErrorBody, ErrorResponse
from embergem.server.access_log import RECORD, AccessRecord
from embergem.server.errors import error_type

log = logging.getLogger("embergem.server")

WRITE_TIMEOUT = 30.0
"""Seconds without progress after which the server stops sending a response that its client does not read."""

OTHER_DESCRIPTORS = 256
"""File descriptors for everything but client connections: models, logs, connections to upstream servers."""

OnRejected = Callable[[AccessRecord], None]
"""Called with the record of each request that was rejected before it was complete."""


def limited_protocol(
    base: type[Any], *, seconds: float, header_bytes: int, connections: int, on_rejected: OnRejected
) -> type[asyncio.Protocol]:
    """Return a subclass of uvicorn's protocol class `base` with limits.

    `seconds` is the deadline for a complete request, counted from its first byte. `header_bytes` bounds the request
    line and headers. If `connections` are open, the connection that has been idle longest is closed for a new one. A
    connection counts as idle until the headers of its request are complete: a client that sends headers a byte at a
    time must not hold a place for `seconds`.
    """
    idle: dict[Any, None] = {}  # idle connections, the one that became idle first in front

    class LimitedProtocol(base):  # type: ignore[misc]
        timeout_keep_alive_task: asyncio.TimerHandle | None
        receive_timer: asyncio.TimerHandle | None = None
        write_timer: asyncio.TimerHandle | None = None
        body_expected = False  # only httptools calls the methods that set it
        header_size = 0  # bytes received of headers that are not complete
        previous_cycle: Any = None  # the request before these headers

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > connections and not self.close_idle_connection():
                self.connections.discard(self)
                message = f"All {connections} connections of this server are in use. Try again later."
                self.reject(503, message, "too_many_connections", "retry-after: 1")
                return
            idle[self] = None
            self.start_receive_timer()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            before = self.in_headers()
            super().data_received(data)
            if not self.in_headers() or self.cycle is not self.previous_cycle:
                self.header_size, self.previous_cycle = 0, self.cycle
            elif before:
                self.header_size += len(data)
                if self.header_size > header_bytes:
                    self.reject(431, f"The headers have more than {header_bytes} bytes.", "headers_too_large")
            self.update_state()

        def on_headers_complete(self) -> None:
            super().on_headers_complete()
            self.body_expected = True

        def on_message_complete(self) -> None:
            super().on_message_complete()
            self.body_expected = False

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self.restart_write_timer()
            self.update_state()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.restart_write_timer()

        def resume_writing(self) -> None:
            super().resume_writing()
            self.restart_write_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            idle.pop(self, None)
            self.stop_receive_timer()
            if self.write_timer is not None:
                self.write_timer.cancel()
            super().connection_lost(exc)

        def in_body(self) -> bool:
            """Return whether a request has complete headers and an incomplete body. It may have a response already."""
            return self.conn.their_state is h11.SEND_BODY if hasattr(self, "conn") else self.body_expected

        def in_headers(self) -> bool:
            """Return whether headers come next. h11 may hold back data that it will parse after the response."""
            return self.conn.their_state is h11.IDLE if hasattr(self, "conn") else not self.body_expected

        def responding(self) -> bool:
            """Return whether the client waits for the server."""
            if getattr(self, "pipeline", None):
                return True
            cycle = self.cycle
            return cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body)

        def update_state(self) -> None:
            """Update timers and the list of idle connections after an event that may have changed the state."""
            if self.transport.is_closing() or self.responding():
                idle.pop(self, None)
                self.stop_receive_timer()
            elif self.in_body():
                idle.pop(self, None)
                self.start_receive_timer()
            elif self.header_size:
                # Re-inserting an existing key keeps its position, so a slow client cannot avoid being closed.
                idle[self] = None
                self.start_receive_timer()
            else:
                idle[self] = None
                if self.cycle is not None:
                    self.stop_receive_timer()
                    if self.timeout_keep_alive_task is None:  # uvicorn loses it when the rest of a body comes late
                        self.timeout_keep_alive_task = self.loop.call_later(
                            self.timeout_keep_alive, self.timeout_keep_alive_handler
                        )

        def start_receive_timer(self) -> None:
            """Start the deadline for a complete request, unless it runs already."""
            if self.receive_timer is None:
                self.receive_timer = self.loop.call_later(seconds, self.on_receive_timeout)

        def stop_receive_timer(self) -> None:
            if self.receive_timer is not None:
                self.receive_timer.cancel()
                self.receive_timer = None

        def on_receive_timeout(self) -> None:
            self.receive_timer = None
            if self.header_size or (self.in_body() and not self.cycle.response_complete):
                self.reject(408, f"The request was not complete after {seconds:g} s.", "request_timeout")
            else:
                self.transport.close()  # the client has sent no request

        def restart_write_timer(self) -> None:
            """Restart the deadline for the client to read a part of its response."""
            if self.write_timer is not None:
                self.write_timer.cancel()
                self.write_timer = None
            if size := self.transport.get_write_buffer_size():
                self.write_timer = self.loop.call_later(WRITE_TIMEOUT, self.on_write_timeout, size)

        def on_write_timeout(self, before: int) -> None:
            size = self.transport.get_write_buffer_size()
            if size < before:
                self.restart_write_timer()
                return
            log.warning(
                "The client %s has not read its response for %g s; %d bytes are dropped.",
                self.address(), WRITE_TIMEOUT, size,
            )  # fmt: skip
            self.transport.abort()

        def close_idle_connection(self) -> bool:
            """Close the connection that has been idle longest; return whether there was one."""
            for one in idle:
                # A transport with unsent data stays open until its client reads the data.
                if not one.transport.get_write_buffer_size():
                    del idle[one]
                    self.connections.discard(one)
                    one.transport.close()
                    return True
            return False

        def send_400_response(self, msg: str) -> None:
            self.reject(400, msg, "invalid_http")

        def reject(self, status: int, message: str, code: str, *headers: str) -> None:
            """Answer with an error in the API's own form, and close the connection."""
            if self.transport.is_closing():
                return
            if self.responding():  # the error would become part of the response to the previous request
                self.transport.close()
                return
            record = AccessRecord(os.urandom(16).hex())
            if self.cycle is not None and not self.cycle.response_complete and RECORD in self.cycle.scope:
                record = self.cycle.scope[RECORD]
            record.code = code
            error = ErrorResponse(ErrorBody(message=message, type=error_type(status), param=None, code=code))
            body = msgspec.json.encode(error)
            lines = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                f"x-request-id: {record.request_id}",
                *headers,
                "connection: close",
            )
            self.transport.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)
            self.transport.close()
            self.restart_write_timer()
            on_rejected(
                replace(record, client=self.address(), method="-", path="-", status=status, size=len(body), seconds=0.0)
            )

        def address(self) -> str:
            return self.client[0] if self.client else "-"

    return LimitedProtocol


def raise_descriptor_limit(connections: int) -> None:
    """Raise the process's limit of open files as far as `connections` need it; log a warning if it stays too low."""
    if sys.platform == "win32":
        return  # Windows has no such limit
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError) as error:  # some systems have a lower limit than the hard limit
        log.warning("The limit of open files stays at %d: %s.", soft, error)
        allowed = soft
    if allowed < needed:
        log.warning(
            "max_connections is %d, but this process may open only %d files; more connections wait unanswered. Raise "
            "the hard limit (`ulimit -Hn`, or LimitNOFILE= in a systemd unit) to %d, or lower max_connections.",
            connections, allowed, needed,
        )  # fmt: skip
