"""Models of upstream servers: requests are forwarded to another OpenAI-compatible server, and its responses returned.

Responses pass through in parts as they arrive, so streams stay streams. Only the client's headers about the content
are forwarded. The client's API key belongs to this server and is never forwarded.
"""

import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from embergem.client.transport import no_cookies
from embergem.config import UpstreamEntry
from embergem.errors import EmbergemError, InvalidRequest, InvalidText, UnsupportedOption
from embergem.registry import DEFAULT
from embergem.server.bounded_json import decode_fields
from embergem.server.wait import wait_while_connected

if TYPE_CHECKING:
    import httpx2

    from embergem.server.state import RequestContext

TRACE_HEADERS = ("traceparent", "tracestate")
"""Headers of W3C Trace Context. While tracing is off, the client's are passed on unchanged."""

REQUEST_HEADERS = ("accept", "accept-language", "openai-beta")
RESPONSE_HEADERS = ("content-type", "retry-after", "x-request-id", "openai-processing-ms")


class UpstreamFailed(EmbergemError):
    """The upstream server could not be reached, or closed the connection."""

    status = 502
    code = "upstream_failed"


class Upstream:
    """A model of an upstream server. Connections stay open for the next request; `close` closes them.

    Raises:
        UnsupportedOption: httpx2 is not installed, or the environment variable for the API key is not set.
    """

    def __init__(self, entry: UpstreamEntry, timeout: float) -> None:
        if importlib.util.find_spec("httpx2") is None:
            raise UnsupportedOption(
                "Upstream models need httpx2. Install it with: pip install 'embergem[server]'", param="upstream"
            )
        self.name = entry.name
        self.address = entry.upstream.rstrip("/")
        self.model = entry.upstream_model or entry.name
        self._timeout = timeout
        self._key: str | None = None
        if entry.upstream_key_env is not None:
            self._key = os.environ.get(entry.upstream_key_env)
            if not self._key:
                raise UnsupportedOption(
                    f"The model {entry.name!r} needs an API key for {self.address}, but the environment variable "
                    f"{entry.upstream_key_env} is not set or empty. Set it, or remove upstream_key_env."
                )
        self._client: httpx2.AsyncClient | None = None

    async def forward(self, context: "RequestContext", fields: Mapping[str, Raw], deadline: float) -> Response:
        """Forward a request to the same path below the upstream server's address; return its response.

        `fields` are those of the body; `model` becomes the name that the upstream server knows. The response must begin
        before `deadline`, a time of `time.monotonic()`.

        Raises:
            UpstreamFailed: The upstream server does not respond.
            DeadlineExceeded: It does not respond in time.
            Cancelled: The client closed the connection.
        """
        import httpx2

        model = Raw(msgspec.json.encode(self.model))
        content = {name: value for name, value in fields.items() if bytes(value) != b"null"} | {"model": model}
        given = context.http.headers
        headers = {name: value for name in REQUEST_HEADERS if (value := given.get(name)) is not None}
        headers |= {"x-request-id": context.record.request_id, "content-type": "application/json"}
        path = context.record.route.removeprefix("/v1")
        if context.trace is None:
            headers |= {name: value for name in TRACE_HEADERS if (value := given.get(name)) is not None}
        else:
            context.trace.begin_request(self.address + path)
            headers |= context.trace.headers()
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        if self._client is None:
            # No limit of connections here: the server limits concurrent requests where they come in.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
            self._client = httpx2.AsyncClient(
                cookies=no_cookies(), timeout=self._timeout, follow_redirects=False, limits=limits
            )
        request = self._client.build_request(
            "POST",
            self.address + path,
            content=msgspec.json.encode(content),
            headers={name.encode(): value.encode("latin-1") for name, value in headers.items()},
        )
        try:
            response = await wait_while_connected(context.http, self._client.send(request, stream=True), deadline)
        except httpx2.HTTPError as error:
            raise UpstreamFailed(f"{self.address} does not respond: {error or type(error).__name__}.") from None
        if context.trace is not None:
            context.trace.end_request(response.status_code)
        return UpstreamResponse(response, self.name)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


class UpstreamResponse(StreamingResponse):
    """The response of an upstream server, in parts as they arrive. It ends when the client disconnects."""

    def __init__(self, response: "httpx2.Response", upstream: str) -> None:
        given = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
        kept = {name: given[name] for name in RESPONSE_HEADERS if name in given}
        super().__init__(response.aiter_bytes(), response.status_code, headers=kept | {"x-embergem-upstream": upstream})
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; release the connection to the upstream server even if nothing was sent."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._response.aclose()


def decode_model_name(content: bytes, max_inputs: int) -> tuple[str, dict[str, Raw]]:
    """Return the model name in a body, and all fields of the body as raw JSON; `max_inputs` is as in `decode_fields`.

    Raises:
        InvalidText: A string has a lone surrogate.
        InvalidRequest: The body is not a JSON object, or `model` is not a string.

    >>> decode_model_name(b'{"model": "llama"}', 9)[0], decode_model_name(b'{"model": null}', 9)[0]
    ('llama', 'default')
    """
    try:
        content.decode()  # forwarded fields are not decoded, so check here that they are UTF-8
        fields = decode_fields(content, max_inputs)
        return msgspec.json.decode(fields.get("model", b"null"), type=str | None) or DEFAULT, fields
    except InvalidText:
        raise
    except (InvalidRequest, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The body must be a JSON object in which `model` is the name of a model: {error}", param="model"
        ) from None
