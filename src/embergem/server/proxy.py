"""Models that another OpenAI-compatible server has: requests for them are sent on, and its answers sent back.

Answers pass through as they come, so that streams stream. What belongs to a connection stays with it: of the client's
headers only those about the content are sent on, and its API key, which is for this server, never is.
"""

import importlib.util
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from embergem.config import UpstreamEntry
from embergem.errors import EmbergemError, InvalidRequest, UnsupportedOption

if TYPE_CHECKING:
    import httpx2

SENT_ON = ("accept", "accept-language", "openai-beta", "x-request-id")
SENT_BACK = ("content-type", "retry-after", "x-request-id", "openai-processing-ms")


class UpstreamFailed(EmbergemError):
    """The other server could not be reached, or hung up."""

    status = 502
    code = "upstream_failed"


class Upstream:
    """Another server's model. Connections to it are kept open; `close` ends them.

    Raises:
        UnsupportedOption: httpx2 is not installed, or the variable that holds the key is not set.
    """

    def __init__(self, entry: UpstreamEntry, timeout: float) -> None:
        if importlib.util.find_spec("httpx2") is None:
            raise UnsupportedOption("upstream models need httpx2: pip install 'embergem[server]'", param="upstream")
        self.name = entry.name
        self.address = entry.upstream.rstrip("/")
        self.model = entry.upstream_model or entry.name
        self._timeout = timeout
        self._key: str | None = None
        if entry.upstream_key_env is not None:
            self._key = os.environ.get(entry.upstream_key_env)
            if not self._key:
                raise UnsupportedOption(
                    f"{entry.name}: the environment variable {entry.upstream_key_env} holds no key for {self.address}"
                )
        self._client: httpx2.AsyncClient | None = None

    async def forward(self, http: HttpRequest, body: bytes) -> Response:
        """Send a request on, to the same path below the other server's address, and its answer back.

        `body` is a JSON object; its `model` is replaced by the name that the other server knows.

        Raises:
            UpstreamFailed: There is no answer.
        """
        import httpx2

        fields: dict[str, Any] = msgspec.json.decode(body)
        fields = {name: value for name, value in fields.items() if value is not None} | {"model": self.model}
        headers = {name: value for name in SENT_ON if (value := http.headers.get(name)) is not None}
        headers["content-type"] = "application/json"
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        path = http.url.path.removeprefix("/v1")
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=self._timeout, follow_redirects=False)
        request = self._client.build_request(
            "POST", self.address + path, content=msgspec.json.encode(fields), headers=headers
        )
        try:
            answer = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise UpstreamFailed(f"{self.address} does not answer: {error or type(error).__name__}") from None
        kept = {name: value for name in SENT_BACK if (value := answer.headers.get(name)) is not None}
        return StreamingResponse(
            self._body(answer), answer.status_code, headers=kept | {"x-embergem-upstream": self.name}
        )

    async def _body(self, answer: "httpx2.Response") -> AsyncIterator[bytes]:
        """Parts as they come; when the client hangs up, so do we."""
        try:
            async for part in answer.aiter_bytes():
                yield part
        finally:
            await answer.aclose()

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


def model_of(body: bytes) -> str:
    """Read only the name of the model out of a body.

    Raises:
        InvalidRequest: It is no JSON object.
    """
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"the body must be a JSON object with the name of a model: {error}", param="model"
        ) from None


class _Named(msgspec.Struct):
    model: str = "default"
