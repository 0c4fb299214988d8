"""Reading the bodies of requests, each under a limit, and all of them under one."""

from starlette.requests import ClientDisconnect, Request

from embergem.errors import Cancelled, EmbergemError, TryLater

AT_ONCE = 8
"""How many bodies of the largest size there is memory for."""

SMALL = 64 * 1024
"""Bytes of each body that are not counted, so that requests for a few texts pass however much the large ones take."""

HELD = "embergem.held"


class BodyTooLarge(EmbergemError):
    """The body is larger than the server accepts."""

    status = 413
    code = "body_too_large"


class TooManyBodies(TryLater):
    """The bodies of the requests that are being answered take all the memory there is for them."""

    code = "too_many_bodies"


class Bodies:
    """The bodies that are in memory: those being received, and those of requests that have no answer yet."""

    def __init__(self) -> None:
        self.bytes = 0

    async def read(self, request: Request, limit: int) -> bytes:
        """Read the whole body, stopping as soon as it is known to exceed `limit` bytes; it counts until `forget`.

        Raises:
            BodyTooLarge: It exceeds the limit.
            TooManyBodies: There is no memory for it beside the others.
            Cancelled: The client hung up.
        """
        declared = request.headers.get("content-length", "")
        parts: list[bytes] = []
        size = int(declared) if declared.isdigit() else 0
        if size <= limit:
            size = 0
            try:
                async for part in request.stream():
                    size += len(part)
                    if size > limit:
                        break
                    self._hold(request, size - SMALL, AT_ONCE * limit)
                    parts.append(part)
            except ClientDisconnect:
                raise Cancelled("the client closed the connection before the body was whole") from None
        if size > limit:
            raise BodyTooLarge(f"the body has more than {limit} bytes, the most that is accepted; send it in parts")
        return b"".join(parts)

    def forget(self, request: Request) -> None:
        """Count the body of a request no longer."""
        self.bytes -= request.scope.pop(HELD, 0)

    def _hold(self, request: Request, size: int, most: int) -> None:
        held = request.scope.get(HELD, 0)
        if size <= held:
            return
        if self.bytes + size - held > most:
            raise TooManyBodies(
                f"the bodies of the requests in work take {self.bytes} bytes of the {most} that there are for them; "
                "send this one again later, or in parts",
                retry_after=1,
            )
        self.bytes += size - held
        request.scope[HELD] = size
