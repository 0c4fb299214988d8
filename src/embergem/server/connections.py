"""Limits of client connections: slow clients, large headers, too many connections, and file descriptors.

uvicorn waits without a limit for the rest of a request that arrives a byte at a time, and for a client that does not
read its response. It accepts headers of any size, and counts idle connections like busy ones. `limited_protocol` adds
these limits to the protocol.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from embergem.protocol import ErrorBody, ErrorResponse
from embergem.server.access_log import RECORD, AccessRecord
from embergem.server.errors import error_type
from embergem.server.http1 import StrictProtocol

log = logging.getLogger("embergem.server")

WRITE_TIMEOUT = 30.0
"""Seconds without progress after which the server stops sending a response that its client does not read."""

OTHER_DESCRIPTORS = 256
"""File descriptors for everything but client connections: models, logs, connections to upstream servers."""

MOST_FRAMING = 16
"""Bytes of a chunked body for each byte of its content; more count as chunk extensions and trailers."""

UPLOADS = frozenset({"/v1/files"})
"""Paths whose bodies may take longer than the deadline of a request, as long as they arrive at `UPLOAD_RATE`."""

UPLOAD_RATE = 16 * 1024
"""Least bytes a second of such a body, on average over the deadline."""

OnRejected = Callable[[AccessRecord], None]
"""Called with the record of each request that was rejected before it was complete."""


class Connection(Protocol):
    """An open connection, as `ConnectionLimit` knows it."""

    transport: asyncio.Transport


class ConnectionLimit:
    """Bounds the open connections of a server. For a new connection, the one that has been idle longest is closed.

    Args:
        most: The most open connections.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: dict[Connection, None] = {}  # the one that became idle first in front

    def mark_idle(self, connection: Connection) -> None:
        """Let a connection be closed for a new one."""
        # Re-inserting an existing key keeps its position, so a slow client cannot avoid being closed.
        self._idle[connection] = None

    def mark_busy(self, connection: Connection) -> None:
        """Keep a connection from being closed for a new one."""
        self._idle.pop(connection, None)

    def make_room(self, connections: set[Any]) -> bool:
        """Close an idle connection if too many of `connections` are open; return False if none is idle."""
        if len(connections) <= self.most:
            return True
        for one in self._idle:
            # A transport with unsent data stays open until its client reads the data.
            if not one.transport.get_write_buffer_size():
                del self._idle[one]
                connections.discard(one)
                one.transport.close()
                return True
        return False


def limited_protocol(
    limit: ConnectionLimit, *, seconds: float, header_bytes: int, on_rejected: OnRejected
) -> type[StrictProtocol]:
    """Return a protocol class with limits.

    `seconds` is the deadline for a complete request, counted from its first byte; uploads get it again and again as
    long as their content arrives at `UPLOAD_RATE`. `header_bytes` bounds the request
    line and headers. A connection is idle until the headers of its request are complete: a client that sends headers a
    byte at a time must not hold a place for `seconds`. It is idle again as soon as the request has its response, even
    if a part of the body is still to come.
    """

    class LimitedProtocol(StrictProtocol):
        max_header_bytes = header_bytes
        timeout_keep_alive_task: asyncio.TimerHandle | None
        receive_timer: asyncio.TimerHandle | None = None
        write_timer: asyncio.TimerHandle | None = None
        header_size = 0  # bytes received of headers that are not complete
        content_size = 0  # bytes of content in the last received bytes
        upload_size = 0  # bytes of content since the deadline began
        framing_size = 0  # bytes of the present body beyond `MOST_FRAMING` for each byte of content

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if not limit.make_room(self.connections):
                self.connections.discard(self)
                message = f"All {limit.most} connections of this server are in use. Try again later."
                self.reject(503, message, "too_many_connections", "retry-after: 1")
                return
            limit.mark_idle(self)
            self.start_receive_timer()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            in_body, cycle, self.content_size = self.in_body, self.cycle, 0
            super().data_received(data)
            if self.in_body or self.cycle is not cycle:
                self.header_size = 0
            elif not in_body:
                self.header_size += len(data)
                if self.header_size > header_bytes:
                    self.reject(431, f"The headers have more than {header_bytes} bytes.", "headers_too_large")
            if in_body and self.in_body and self.cycle is cycle:
                self.framing_size = max(0, self.framing_size + len(data) - MOST_FRAMING * self.content_size)
                if self.framing_size > header_bytes:
                    message = (
                        "The body has too many bytes that are not content. Send fewer chunk extensions and trailers."
                    )
                    self.reject(400, message, "invalid_http")
            else:
                self.framing_size = 0
            self.update_state()

        def on_body(self, body: bytes) -> None:
            self.content_size += len(body)
            self.upload_size += len(body)
            super().on_body(body)

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
            limit.mark_busy(self)
            self.stop_receive_timer()
            if self.write_timer is not None:
                self.write_timer.cancel()
            super().connection_lost(exc)

        def responding(self) -> bool:
            """Return whether the client waits for the server."""
            if self.pipeline:
                return True
            cycle = self.cycle
            return cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body)

        def awaits_body(self) -> bool:
            """Return whether a request without a response has an incomplete body."""
            return self.in_body and not self.cycle.response_complete

        def is_uploading(self) -> bool:
            """Return whether a request that may take long has an incomplete body."""
            return self.awaits_body() and self.cycle.scope["path"] in UPLOADS

        def update_state(self) -> None:
            """Update timers and the list of idle connections after an event that may have changed the state."""
            if self.transport.is_closing() or self.responding():
                limit.mark_busy(self)
                self.stop_receive_timer()
            elif self.awaits_body():
                limit.mark_busy(self)
                self.start_receive_timer()
            elif self.header_size or self.in_body:
                limit.mark_idle(self)
                self.start_receive_timer()
            else:
                limit.mark_idle(self)
                if self.cycle is not None:
                    self.stop_receive_timer()
                    if self.timeout_keep_alive_task is None:  # uvicorn loses it when the rest of a body comes late
                        self.timeout_keep_alive_task = self.loop.call_later(
                            self.timeout_keep_alive, self.timeout_keep_alive_handler
                        )

        def start_receive_timer(self) -> None:
            """Start the deadline for a complete request, unless it runs already."""
            if self.receive_timer is None:
                self.upload_size = 0
                self.receive_timer = self.loop.call_later(seconds, self.on_receive_timeout)

        def stop_receive_timer(self) -> None:
            if self.receive_timer is not None:
                self.receive_timer.cancel()
                self.receive_timer = None

        def on_receive_timeout(self) -> None:
            self.receive_timer = None
            if self.is_uploading() and self.upload_size >= seconds * UPLOAD_RATE:
                self.start_receive_timer()
            elif self.header_size or self.awaits_body():
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

        def reject(self, status: int, message: str, code: str, *headers: str) -> None:
            """Answer with an error in the API's own form, and close the connection."""
            if self.transport.is_closing():
                return
            if self.responding():  # the error would become part of the response to the previous request
                self.transport.close()
                return
            record = AccessRecord(os.urandom(16).hex())
            if self.cycle is not None and not self.cycle.response_complete and RECORD in self.cycle.scope:
                record = self.cycle.scope[RECORD]  # type: ignore[literal-required]
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
