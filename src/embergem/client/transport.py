"""Requests to a server that are sent again when that can help, over connections that are kept."""

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping

from embergem.client.codec import fail
from embergem.errors import ServerUnreachable, UnsupportedOption

AGAIN = frozenset({429, 502, 503, 504})
"""Answers after which the same request may succeed. Embedding twice does no harm."""

LONGEST_PAUSE = 60.0
"""Seconds waited for one retry at most; a server that asks for more is told to the caller instead."""


class Http:
    """Sends requests from one event loop.

    Args:
        url: Address of the server, with or without "/v1".
        api_key: Bearer token, if any.
        timeout: Seconds to wait for one answer.
        retries: Times that a request is sent again.
        connections: Requests on their way at a time.
    """

    def __init__(self, url: str, *, api_key: str | None, timeout: float, retries: int, connections: int) -> None:
        try:
            import httpx2
        except ImportError:
            raise UnsupportedOption(
                f"speaking to {url} needs the package httpx2: pip install 'embergem[client]'"
            ) from None
        self.url = url.rstrip("/").removesuffix("/v1")
        self._retries = retries
        self._broken = (httpx2.TransportError,)
        self._places = asyncio.Semaphore(connections)
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        try:
            self._client = httpx2.AsyncClient(
                base_url=self.url,
                headers=headers,
                timeout=httpx2.Timeout(timeout, connect=min(timeout, 10.0)),
                limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            )
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise UnsupportedOption(f"{url!r} is no address of a server: {error}") from None

    async def get(self, path: str) -> bytes:
        """Return the body at `path`; raises as `post`."""
        content, _ = await self._send("GET", path, None)
        return content

    async def post(self, path: str, content: bytes) -> tuple[bytes, Mapping[str, str]]:
        """Send a body; returns the answer's, and its headers.

        Raises:
            EmbergemError: The one that the server names; see `client.codec.fail`.
            ServerUnreachable: There is no answer.
        """
        return await self._send("POST", path, content)

    async def _send(self, method: str, path: str, content: bytes | None) -> tuple[bytes, Mapping[str, str]]:
        async with self._places:
            for attempt in range(self._retries + 1):
                last = attempt == self._retries
                try:
                    response = await self._client.request(method, path, content=content)
                except self._broken as error:
                    if last:
                        what = str(error) or type(error).__name__
                        raise ServerUnreachable(f"{self.url} gave no answer to {method} {path}: {what}") from None
                    await pause(_backoff(attempt))
                    continue
                if response.is_success:
                    return response.content, response.headers
                asked = retry_after(response.headers)
                if last or response.status_code not in AGAIN or (asked or 0) > LONGEST_PAUSE:
                    fail(response.status_code, response.content, f"{self.url}{path}", asked)
                await pause(_backoff(attempt) if asked is None else asked)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, as a number or as a date; None if it does not say.

    >>> retry_after({"retry-after": "1.5"}), retry_after({"retry-after": "soon"}), retry_after({})
    (1.5, None, None)
    """
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds < float("inf") else None


async def pause(seconds: float) -> None:
    """Wait before a retry. The slot of the request stays taken: a server that is busy is asked for less."""
    await asyncio.sleep(seconds)


def _backoff(attempt: int) -> float:
    """Half a second, then twice as much each time, up to eight; a random part keeps clients apart."""
    return min(0.5 * 2.0**attempt, 8.0) * random.uniform(0.5, 1.0)
