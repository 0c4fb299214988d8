"""HTTP requests to a server over pooled connections, sent again after temporary failures."""

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

from embergem.client.codec import raise_error
from embergem.errors import ServerUnreachable, UnsupportedOption

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
"""Statuses after which a request is sent again. The requests change nothing at the server, so repeating is safe."""

MAX_RETRY_AFTER = 60.0
"""Most seconds that the transport waits on its own; if a server asks for more, the caller gets the error."""


class Transport:
    """Sends requests from one event loop.

    Args:
        url: Address of the server, with or without "/v1".
        api_key: Bearer token, if any.
        timeout: Seconds to wait for one answer.
        retries: Times that a request is sent again.
        connections: Most requests at a time.

    Raises:
        UnsupportedOption: httpx2 is not installed, or `url` is not an address.
    """

    def __init__(self, url: str, *, api_key: str | None, timeout: float, retries: int, connections: int) -> None:
        if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
            advice = f"Did you mean 'http://{url}'?" if "://" not in url else "Give one such as http://localhost:1234."
            raise UnsupportedOption(f"{url!r} is not an http:// or https:// address. {advice}", param="url")
        try:
            import httpx2
        except ImportError:
            raise UnsupportedOption(
                f"A connection to {url} needs the package httpx2. Install it: pip install 'embergem[client]'"
            ) from None
        self.url = url.rstrip("/").removesuffix("/v1")
        self._retries = retries
        self._connection_errors = (httpx2.TransportError,)
        self._slots = asyncio.Semaphore(connections)
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        try:
            self._client = httpx2.AsyncClient(
                base_url=self.url,
                headers=headers,
                cookies=no_cookies(),
                timeout=httpx2.Timeout(timeout, connect=min(timeout, 10.0)),
                limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            )
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise UnsupportedOption(
                f"{url!r} is not the address of a server: {error}. Give one such as http://localhost:1234."
            ) from None

    async def get(self, path: str) -> bytes:
        """Return the body at `path`; raises as `post`."""
        content, _ = await self._send("GET", path, None)
        return content

    async def post(self, path: str, content: bytes) -> tuple[bytes, Mapping[str, str]]:
        """Send a body; returns the body and the headers of the answer.

        Raises:
            EmbergemError: The error that the server answers; see `client.codec.raise_error`.
            ServerUnreachable: The server does not answer.
        """
        return await self._send("POST", path, content)

    async def _send(self, method: str, path: str, content: bytes | None) -> tuple[bytes, Mapping[str, str]]:
        async with self._slots:
            for attempt in range(self._retries + 1):
                last = attempt == self._retries
                try:
                    response = await self._client.request(method, path, content=content)
                except self._connection_errors as error:
                    if last:
                        reason = str(error) or type(error).__name__
                        raise ServerUnreachable(
                            f"{self.url} did not answer {method} {path}: {reason}. Check the address, and that "
                            "`embergem serve` runs there."
                        ) from None
                    await sleep(_backoff(attempt))
                    continue
                if response.is_success:
                    return response.content, response.headers
                wait = retry_after(response.headers)
                if last or response.status_code not in RETRIED_STATUSES or (wait or 0) > MAX_RETRY_AFTER:
                    raise_error(response.status_code, response.content, f"{self.url}{path}", wait)
                await sleep(_backoff(attempt) if wait is None else wait)
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def no_cookies() -> CookieJar:
    """Return a cookie jar that stays empty.

    httpx2 stores the cookies of responses and sends them with later requests. An API key identifies a client, and a
    server sends the requests of many clients over one connection pool, so a cookie would reach the wrong client.
    """
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse the header `Retry-After`, a number of seconds or a date; returns seconds, or None if there is none.

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


async def sleep(seconds: float) -> None:
    """Wait before a retry. The request keeps its slot meanwhile, so that a busy server gets fewer requests."""
    await asyncio.sleep(seconds)


def _backoff(attempt: int) -> float:
    """Return the pause after failed attempt number `attempt`: half a second, doubled each time up to eight seconds.

    A random factor keeps clients from retrying at the same time.
    """
    return min(0.5 * 2.0**attempt, 8.0) * random.uniform(0.5, 1.0)
