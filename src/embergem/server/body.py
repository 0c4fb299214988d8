"""Reading a request's body under a limit, and vectors as base64."""

import base64

from starlette.requests import Request

from embergem.engine.request import Vectors
from embergem.errors import EmbergemError

MAX_BODY = 50 * 2**20
"""Bytes of a body that are accepted: about twelve million tokens of plain text."""


class BodyTooLarge(EmbergemError):
    """The body is larger than the server accepts."""

    status = 413
    code = "body_too_large"


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """Read the whole body, stopping as soon as it is known to exceed `limit` bytes."""
    declared = request.headers.get("content-length", "")
    parts: list[bytes] = []
    size = int(declared) if declared.isdigit() else 0
    if size <= limit:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                break
            parts.append(part)
    if size > limit:
        raise BodyTooLarge(f"the body has more than {limit} bytes, the most that is accepted; send it in parts")
    return b"".join(parts)


def to_base64(vectors: Vectors) -> list[str]:
    """Each vector as base64 of its little-endian float32 numbers."""
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in vectors.astype("<f4", copy=False)]
