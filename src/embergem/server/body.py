"""Reading request bodies: a size limit for each body, and a memory limit for all bodies together.

Large bodies take turns, so that other requests wait for a part of one body at most, and not for a part of each.

Compressed bodies are decompressed as they arrive, and both limits count the decompressed bytes.
"""

import asyncio
from codecs import BOM_UTF8
from typing import TYPE_CHECKING

from embergem.errors import Cancelled, EmbergemError, TryLater
from embergem.free_memory import return_free_memory
from embergem.server.inflate import Inflater

if TYPE_CHECKING:
    from embergem.server.state import RequestContext

LARGE_BODIES = 8
"""The memory limit of all bodies together, as a multiple of the size limit of one."""

SMALL = 64 * 1024
"""Bytes of each body that do not count towards the memory limit, so that small requests pass beside large ones."""

LARGE = 1024 * 1024
"""Bytes of a body after which free memory is returned to the system."""

TRIM_AFTER = 1.0
"""Seconds between the last large body and the return of free memory. Handlers and workers still refer to parts of the
body when the request has its response, so an earlier return would leave these."""


class BodyTooLarge(EmbergemError):
    """The body is larger than the server accepts."""

    status = 413
    code = "body_too_large"


def too_large(limit: int) -> BodyTooLarge:
    """Return the error for a body over the limit."""
    return BodyTooLarge(
        f"The body has more than {limit} bytes, the most that this server accepts. Send it in several requests."
    )


class TooManyBodies(TryLater):
    """The bodies of the requests in progress use all the memory that the server allows for bodies."""

    code = "too_many_bodies"


class BodyReader:
    """Reads bodies and counts the bytes of those in memory. A body counts until its request has a response.

    Attributes:
        bytes: Bytes in memory that count towards the limit.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._turn = asyncio.Lock()
        self._trim_due = False  # whether a large body was read since free memory was last returned

    async def read(self, context: "RequestContext") -> bytes:
        """Read the whole body, without a byte order mark; stop as soon as it is known to exceed the setting `max_body`.

        Raises:
            BodyTooLarge: The body exceeds the limit, before or after it is decompressed.
            TooManyBodies: The bodies of other requests use the memory.
            UnsupportedEncoding, InvalidRequest: The body cannot be decompressed.
            Cancelled: The client closed the connection.
        """
        limit = context.state.settings.max_body
        headers = context.http.headers
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise too_large(limit)
        inflater = Inflater.of(headers.getlist("content-encoding")) if "content-encoding" in headers else None
        parts: list[bytes] = []
        received = size = 0
        more = True
        while more:
            if size > SMALL:
                async with self._turn:  # one part of one large body in each cycle of the event loop
                    await asyncio.sleep(0)
            message = await context.http.receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("The client closed the connection before the body was complete.")
            part = message.get("body", b"")
            received += len(part)
            if received > limit:  # empty blocks of a compressed body add nothing to `size`
                raise too_large(limit)
            more = message.get("more_body", False)
            for found in (part,) if inflater is None else inflater.inflate(part, last=not more):
                size += len(found)
                if size > limit:
                    raise too_large(limit)
                if size > SMALL:
                    self._reserve(context, size - SMALL)
                parts.append(found)
                if inflater is not None:
                    await asyncio.sleep(0)  # a small part can decompress to the largest body
        return b"".join(parts).removeprefix(BOM_UTF8)

    def release(self, context: "RequestContext") -> None:
        """Stop counting the body of a request. Return free memory to the system soon after the last large body."""
        self._trim_due |= context.body_bytes > LARGE
        self.bytes -= context.body_bytes
        context.body_bytes = 0
        if self._trim_due and self.bytes == 0:
            asyncio.get_running_loop().call_later(TRIM_AFTER, self._trim)

    def _trim(self) -> None:
        """Return free memory to the system, unless bodies are in memory again or it was returned already."""
        if self._trim_due and self.bytes == 0:
            self._trim_due = False
            asyncio.get_running_loop().run_in_executor(None, return_free_memory)

    def _reserve(self, context: "RequestContext", size: int) -> None:
        limit = LARGE_BODIES * context.state.settings.max_body
        if self.bytes + size - context.body_bytes > limit:
            raise TooManyBodies(
                f"The bodies of the requests in progress use {self.bytes} of {limit} bytes. Send this request again "
                "later, or in several smaller requests.",
                retry_after=1,
            )
        self.bytes += size - context.body_bytes
        context.body_bytes = size
