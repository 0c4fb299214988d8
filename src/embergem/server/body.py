"""Reading a request's body under a limit."""

from starlette.requests import ClientDisconnect, Request

from embergem.errors import Cancelled, EmbergemError


class BodyTooLarge(EmbergemError):
    """The body is larger than the server accepts."""

    status = 413
    code = "body_too_large"


async def read_body(request: Request, limit: int) -> bytes:
    """Read the whole body, stopping as soon as it is known to exceed `limit` bytes."""
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
                parts.append(part)
        except ClientDisconnect:
            raise Cancelled("the client closed the connection before the body was whole") from None
    if size > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes, the most that is accepted; send it in parts")
    return b"".join(parts)
