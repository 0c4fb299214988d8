"""The access log: a middleware that gives each request an id, measures it, counts it and logs it."""

import logging
import os
import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embergem.config import Settings
from embergem.server.log_format import escape_controls
from embergem.server.metrics import Metrics

access = logging.getLogger("embergem.access")

RECORD = "embergem.record"
"""Key of the ASGI scope under which handlers find the `AccessRecord` of the request."""

MAX_ID = 128
"""Longest request id that is taken from a client."""

_AMBIGUOUS = re.compile('[ "=]')
"""Characters that would make the text form `name=value` ambiguous."""


@dataclass(slots=True)
class AccessRecord:
    """What the access log and the metrics say about one request; handlers fill it in while they answer.

    Attributes:
        request_id: The client's `X-Request-Id`, or a new id.
        client: Address of the client.
        method, path: As in the request line; "-" for a request that was rejected before it was complete.
        route: Path template of the operation, for the metrics; "" where no operation matched.
        status: HTTP status of the response; 499 where the client closed the connection first.
        size: Bytes of the response body.
        seconds: Time to answer.
        key: Name of the API key.
        model: Main name of the model.
        task: Task whose prompt was applied.
        code: Code of the error.
        inputs, tokens, truncated, cached: Number of inputs, of tokens, of truncated and of cached inputs.
        trace: Trace id of OpenTelemetry, 32 hex digits; "" while tracing is off.
        texts: The inputs, for the setting `log_inputs`.
    """

    request_id: str
    client: str = "-"
    method: str = "-"
    path: str = "-"
    route: str = ""
    status: int = 499
    size: int = 0
    seconds: float = 0.0
    key: str = ""
    model: str = ""
    task: str = ""
    code: str = ""
    inputs: int = 0
    tokens: int = 0
    truncated: int = 0
    cached: int = 0
    trace: str = ""
    texts: list[str] | None = None

    def line(self, settings: Settings) -> str:
        """Format the record as one line of the access log, as text or as JSON."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "id": self.request_id,
            "client": self.client,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "bytes": self.size,
        }
        for name in ("key", "model", "task", "code", "inputs", "tokens", "truncated", "cached", "trace"):
            if value := getattr(self, name):
                fields[name] = value
        if settings.log_inputs and self.texts is not None:
            fields["texts"] = self.texts
        if settings.access_log == "json":
            return escape_controls(msgspec.json.encode(fields).decode())
        words = []
        for name, value in fields.items():
            text = str(value)
            if isinstance(value, list) or not text.isprintable() or _AMBIGUOUS.search(text):
                text = msgspec.json.encode(value).decode()  # so that a value cannot forge a field or a line
            words.append(f"{name}={text}")
        return escape_controls(" ".join(words))


class AccessLogMiddleware:
    """Adds `x-request-id` to each response, counts the response, and writes a line of the access log."""

    def __init__(self, app: ASGIApp, metrics: Metrics, settings: Settings) -> None:
        self.app = app
        self.metrics = metrics
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, then count and log the request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = ""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                request_id = value.decode("latin-1")
                break
        if not 0 < len(request_id) <= MAX_ID or not request_id.isprintable():
            request_id = os.urandom(16).hex()
        client = scope.get("client")
        record = AccessRecord(request_id, client[0] if client else "-", scope["method"], scope["path"])
        scope[RECORD] = record

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = [header for header in message.get("headers", ()) if header[0] != b"x-request-id"]
                message["headers"] = [*headers, (b"x-request-id", request_id.encode("latin-1"))]
            else:
                record.size += len(message.get("body", b""))
            await send(message)

        self.metrics.in_flight += 1
        start = time.perf_counter()
        try:
            await self.app(scope, receive, send_recorded)
        finally:
            record.seconds = time.perf_counter() - start
            self.metrics.in_flight -= 1
            self.metrics.record_response(record)
            if self.settings.access_log != "off":
                access.info(record.line(self.settings))
            record.texts = None  # the server may keep the scope, and the record in it, for a while


def record_rejected(record: AccessRecord, metrics: Metrics, settings: Settings) -> None:
    """Count and log a request that the protocol rejected before it was complete."""
    metrics.record_rejected(record)
    if settings.access_log != "off":
        access.info(record.line(settings))
