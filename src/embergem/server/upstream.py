"""Models that another OpenAI-compatible server has: requests for them are sent on, and its answers sent back.

Answers pass through as they come, so that streams stream. What belongs to a connection stays with it: of the client's
headers only those about the content are sent on, and its API key, which is for this server, never is.
"""

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from embergem.config import UpstreamEntry
from embergem.errors import EmbergemError, InvalidRequest, UnsupportedOption
from embergem.server.decode import fields_of
from embergem.server.wait import unless_gone

if TYPE_CHECKING:
    import httpx2

    from embergem.server.call import Call

SENT_ON = ("accept", "accept-language", "openai-beta")
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

    async def forward(self, call: "Call", fields: Mapping[str, Raw], late: float) -> Response:
        """Send a request on, to the same path below the other server's address, and its answer back.

        `fields` are those of the body; `model` is replaced by the name that the other server knows. The answer must
        begin before `late`, a time of `time.monotonic()`.

        Raises:
            UpstreamFailed: There is no answer.
            DeadlineExceeded: There is none in time.
            Cancelled: The client has gone.
        """
        import httpx2

        model = Raw(msgspec.json.encode(self.model))
        content = {name: value for name, value in fields.items() if bytes(value) != b"null"} | {"model": model}
        given = call.http.headers
        headers = {name: value for name in SENT_ON if (value := given.get(name)) is not None}
        headers |= {"x-request-id": call.notes.request_id, "content-type": "application/json"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        if self._client is None:
            # How many requests there may be at once is decided where they come in.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
            self._client = httpx2.AsyncClient(timeout=self._timeout, follow_redirects=False, limits=limits)
        request = self._client.build_request(
            "POST",
            self.address + call.http.url.path.removeprefix("/v1"),
            content=msgspec.json.encode(content),
            headers={name.encode(): value.encode("latin-1") for name, value in headers.items()},
        )
        try:
            answer = await unless_gone(call.http, self._client.send(request, stream=True), late)
        except httpx2.HTTPError as error:
            raise UpstreamFailed(f"{self.address} does not answer: {error or type(error).__name__}") from None
        return Passed(answer, self.name)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


class Passed(StreamingResponse):
    """The answer of another server, in parts as they come. When the client hangs up, so do we."""

    def __init__(self, answer: "httpx2.Response", upstream: str) -> None:
        given = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers.raw}
        kept = {name: given[name] for name in SENT_BACK if name in given}
        super().__init__(answer.aiter_bytes(), answer.status_code, headers=kept | {"x-embergem-upstream": upstream})
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the connection to the other server is given back even where nothing of it was sent."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()


def named(body: bytes) -> tuple[str, dict[str, Raw]]:
    """Read the name of the model out of a body, and its fields as they came.

    Raises:
        InvalidRequest: It is no JSON object, or its model has no name.

    >>> named(b'{"model": "llama"}')[0], named(b"{}")[0]
    ('llama', 'default')
    """
    try:
        body.decode()  # what is only passed on is not looked at, and the other server may not like it
        fields = fields_of(body)
        return msgspec.json.decode(fields.get("model", b'"default"'), type=str), fields
    except (InvalidRequest, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"the body must be a JSON object with the name of a model: {error}", param="model"
        ) from None
