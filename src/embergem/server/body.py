"""Reading request bodies: a size limit for each body, and a memory limit for all bodies together."""

import asyncio
import ctypes
import sys
from functools import cache
from typing import TYPE_CHECKING

from embergem.errors import Cancelled, EmbergemError, TryLater

if TYPE_CHECKING:
    from embergem.server.state import RequestContext

LARGE_BODIES = 8
"""The memory limit of all bodies together, as a multiple of the size limit of one."""

SMALL = 64 * 1024
"""Bytes of each body that do not count towards the memory limit, so that small requests pass beside large ones."""


LARGE = 1024 * 1024
"""Bytes of a body after which free memory is returned to the system. glibc keeps up to 64 MiB in each of its arenas."""


@cache
def malloc_trim() -> "ctypes._NamedFuncPointer | None":
    """Return the function of glibc that returns free memory to the system; None with other C libraries."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class BodyTooLarge(EmbergemError):
    """The body is larger than the server accepts."""

    status = 413
    code = "body_too_large"


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

    async def read(self, context: "RequestContext") -> bytes:
        """Read the whole body; stop as soon as it is known to exceed the setting `max_body`.

        Raises:
            BodyTooLarge: The body exceeds the limit.
            TooManyBodies: The bodies of other requests use the memory.
            Cancelled: The client closed the connection.
        """
        limit = context.state.settings.max_body
        declared = context.http.headers.get("content-length", "")
        size = int(declared) if declared.isdigit() else 0
        if size <= limit:
            parts: list[bytes] = []
            size = 0
            more = True
            while more:
                message = await context.http.receive()
                if message["type"] == "http.disconnect":
                    raise Cancelled("The client closed the connection before the body was complete.")
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    break
                if size > SMALL:
                    self._reserve(context, size - SMALL)
                parts.append(part)
                more = message.get("more_body", False)
            else:
                return b"".join(parts)
        raise BodyTooLarge(
            f"The body has more than {limit} bytes, the most that this server accepts. Send it in several requests."
        )

    def release(self, context: "RequestContext") -> None:
        """Stop counting the body of a request. After the last large one, return free memory to the system."""
        released = context.body_bytes
        self.bytes -= released
        context.body_bytes = 0
        if self.bytes == 0 and released > LARGE and (trim := malloc_trim()) is not None:
            asyncio.get_running_loop().run_in_executor(None, trim, 0)

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
