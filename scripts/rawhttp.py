"""A small HTTP/1.1 client on asyncio streams, for clients that do what no HTTP library would do.

Separate because the clients of `soak` and of `attacks` share it.
"""

import asyncio
import contextlib
from collections.abc import Mapping

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def head(method: str, path: str, length: int, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head of a request whose body has `length` bytes."""
    given = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(length)} | dict(
        headers or {}
    )
    return "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{name}: {given[name]}" for name in given), "", ""]).encode()


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one response and return (status, body).

    Raises:
        asyncio.IncompleteReadError, ConnectionError: The server closed the connection first.
    """
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(lines.split("content-length:")[1].split("\r\n")[0])
    return int(lines.split()[1]), await reader.readexactly(length)


async def ask(stream: Stream, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Send one request on an open connection and return (status, body)."""
    reader, writer = stream
    writer.write(head(method, path, len(body)) + body)
    await writer.drain()
    return await read_response(reader)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
