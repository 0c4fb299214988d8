"""uvicorn's protocols with an eye on time: a request must have arrived whole some seconds after its first byte.

uvicorn itself waits for ever for the rest of a request that comes a byte at a time, and one of its two parsers takes
headers of any size.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from embergem.server.schema import ErrorBody, ErrorResponse

Refused = Callable[[int], None]
"""Told the status of each request that was refused before it was one."""


def careful(base: type[Any], *, seconds: float, header_bytes: int, refused: Refused) -> type[asyncio.Protocol]:
    """Return the protocol `base` of uvicorn with an absolute deadline for receiving and a limit for headers."""

    class Careful(base):  # type: ignore[misc]
        late: asyncio.TimerHandle | None = None
        head = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self.late = self.loop.call_later(seconds, self.on_late)

        def data_received(self, data: bytes) -> None:
            if self.late is None:
                self.late = self.loop.call_later(seconds, self.on_late)
            super().data_received(data)
            self.head = self.head + len(data) if self.in_head() else 0
            if self.head > header_bytes:
                self.refuse(431, f"the headers have more than {header_bytes} bytes", "headers_too_large")
            elif not self.in_head() and not self.cycle.more_body:
                self.disarm()

        def connection_lost(self, exc: Exception | None) -> None:
            self.disarm()
            super().connection_lost(exc)

        def in_head(self) -> bool:
            """Whether what comes next belongs to a request that has not begun yet."""
            return self.cycle is None or self.cycle.response_complete

        def disarm(self) -> None:
            if self.late is not None:
                self.late.cancel()
                self.late = None

        def on_late(self) -> None:
            if (self.in_head() and self.head == 0) or (not self.in_head() and self.cycle.response_started):
                self.transport.close()  # nobody is waiting for an answer
            else:
                self.refuse(408, f"the request did not arrive within {seconds:g} s", "request_timeout")

        def send_400_response(self, msg: str) -> None:
            self.refuse(400, msg, "invalid_http")

        def refuse(self, status: int, message: str, code: str) -> None:
            """Answer in the shape of all other errors, and hang up."""
            refused(status)
            error = ErrorResponse(ErrorBody(message=message, type="invalid_request_error", param=None, code=code))
            body = msgspec.json.encode(error)
            lines = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                "connection: close",
            )
            self.transport.write("\r\n".join((*lines, "", "")).encode() + body)
            self.transport.close()

    return Careful
