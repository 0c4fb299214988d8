"""OpenTelemetry spans of requests: the HTTP request, and below it tokenize, queue, compute, encode and forwarding.

Attributes of HTTP follow OpenTelemetry's semantic conventions. The others begin with "embergem.", because the
conventions for generative AI are not stable. Attributes are numbers and short names, never texts, query strings or
messages of errors. This module is imported only where tracing is on; see `embergem.server.otel`.
"""

import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider
from starlette.types import ASGIApp, Receive, Scope, Send

from embergem import __version__
from embergem._native import CancelToken
from embergem.engine import Engine
from embergem.engine.pending import PendingRequest
from embergem.errors import Cancelled
from embergem.server.access_log import RECORD, AccessRecord
from embergem.server.state import TRACE

UNTRACED = frozenset({"/health", "/ready", "/metrics"})
"""Paths that are requested every few seconds by the systems that watch a server."""

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""Methods that the semantic conventions know; `http.request.method` of any other method is "_OTHER"."""

MAX_VALUE = 200
"""Most characters of an attribute that the client chooses."""

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
"""Version of the semantic conventions."""

T = TypeVar("T")

Attributes = dict[str, str | int | float]


class Tracing:
    """Starts the spans of requests.

    Args:
        provider: Makes the spans; None is the provider of this process, `opentelemetry.trace.get_tracer_provider()`.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("embergem", __version__, provider, SCHEMA)

    def start(self, scope: Scope) -> "RequestTrace":
        """Start the span of an HTTP request. Its parent is the active span, or else the span that the headers name."""
        headers: dict[str, list[str]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.decode("latin-1"), []).append(value.decode("latin-1"))
        parent = None
        if not trace.get_current_span().get_span_context().is_valid:
            parent = propagate.extract(headers)
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        attributes: Attributes = {
            "http.request.method": method,
            "url.scheme": scope["scheme"],
            "url.path": scope["path"][:MAX_VALUE],
            "network.protocol.version": scope["http_version"],
            "client.address": scope[RECORD].client,
        }
        if method == "_OTHER":
            attributes["http.request.method_original"] = scope["method"][:MAX_VALUE]
        if agent := headers.get("user-agent"):
            attributes["user_agent.original"] = agent[0][:MAX_VALUE]
        return RequestTrace(self._tracer, parent, attributes)


class TracingMiddleware:
    """Makes the span of each request, except those of monitoring (`UNTRACED`)."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self.app = app
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside the span of the request."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if not path or path in UNTRACED:
            await self.app(scope, receive, send)
            return
        record: AccessRecord = scope[RECORD]
        trace = scope[TRACE] = self.tracing.start(scope)
        record.trace = trace.id
        error: Exception | None = None
        try:
            await self.app(scope, receive, send)
        except Exception as unexpected:  # it was answered with 500
            error = unexpected
            raise
        finally:
            trace.finish(record, scope.get("root_path", ""), error)


class RequestTrace:
    """The span of one request, and below it one span for each stage of the work.

    One stage follows the other, and each may begin on another thread. Times are those of `time.monotonic()`, which the
    engine uses, moved to the time of day.

    Attributes:
        id: The trace id, 32 hex digits.
    """

    def __init__(self, tracer: Tracer, parent: Context | None, attributes: Attributes) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()
        self._tracer = tracer
        self._method = attributes["http.request.method"]
        self._span = tracer.start_span("HTTP", parent, trace.SpanKind.SERVER, attributes, start_time=self._now())
        self._context = trace.set_span_in_context(self._span, parent)
        self._stage: Span | None = None
        self._work: PendingRequest | None = None
        self._max_batch_tokens = 1
        self.id = trace.format_trace_id(self._span.get_span_context().trace_id)

    def begin(self, name: str) -> None:
        """End the current stage, and begin the next one."""
        self.end()
        self._stage = self._tracer.start_span(name, self._context, start_time=self._now())

    def staged(self, name: str, work: Callable[[CancelToken], T]) -> Callable[[CancelToken], T]:
        """Return a function that begins a stage and does `work`, to be called on a worker thread."""

        def run(cancel: CancelToken) -> T:
            self.begin(name)
            return work(cancel)

        return run

    def begin_request(self, address: str) -> None:
        """Begin the stage of a request to an upstream server; `address` is its URL."""
        self.end()
        url = urlsplit(address)
        attributes: Attributes = {
            "http.request.method": "POST",
            "url.full": url._replace(netloc=url.netloc.rpartition("@")[2], query="").geturl(),  # without credentials
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }
        self._stage = self._tracer.start_span(
            "POST", self._context, SpanKind.CLIENT, attributes, start_time=self._now()
        )

    def end_request(self, status: int) -> None:
        """End the stage of a request to an upstream server, whose response began with `status`."""
        self.end({"http.response.status_code": status}, error=str(status) if status >= 400 else "")

    def end(self, attributes: Attributes | None = None, *, error: str = "") -> None:
        """End the current stage, if there is one. `error` is the code of the error that ended it."""
        if self._work is not None:
            self._end_work(self._work, error)
        if self._stage is not None:
            self._end_span(self._stage, attributes or {}, error, self._now())
        self._work = self._stage = None

    def submitted(self, work: PendingRequest, engine: Engine) -> None:
        """End the stage "tokenize" where the queue begins.

        The spans "queue" and "compute" are made later, from the timing of `work` in the engine.
        """
        if self._stage is not None:
            tokens = sum(len(row.ids) for row in work.rows)
            attributes: Attributes = {"embergem.rows": len(work.rows), "embergem.tokens": tokens}
            self._end_span(self._stage, attributes, "", self._time(work.timing.queued_at))
        self._stage, self._work = None, work
        self._max_batch_tokens = engine.max_batch_tokens

    def headers(self) -> dict[str, str]:
        """Return the headers that make the spans of another server children of the current stage."""
        context = self._context if self._stage is None else trace.set_span_in_context(self._stage, self._context)
        headers: dict[str, str] = {}
        propagate.inject(headers, context)
        return headers

    def finish(self, record: AccessRecord, prefix: str, error: Exception | None) -> None:
        """End the span of the request.

        Args:
            record: What is known of the request.
            prefix: Path below which the application is mounted.
            error: The exception that was answered with 500, if it is not one of embergem's.
        """
        code = record.code or (Cancelled.code if record.status == 499 else "")
        self.end(error=code)
        route = prefix + record.route if record.route else ""
        method = "HTTP" if self._method == "_OTHER" else self._method
        self._span.update_name(f"{method} {route}" if route else str(method))
        attributes: Attributes = {"http.response.status_code": record.status}
        if route:
            attributes["http.route"] = route
        for name in ("model", "key", "task", "code", "inputs", "tokens", "truncated", "cached"):
            if value := getattr(record, name):
                attributes["embergem.error_code" if name == "code" else f"embergem.{name}"] = value
        if error is not None:  # without its message, which may quote a text
            self._span.add_event("exception", {"exception.type": type(error).__qualname__}, self._now())
        self._end_span(self._span, attributes, code if record.status >= 500 else "", self._now())

    def _end_work(self, work: PendingRequest, error: str) -> None:
        """Make the spans "queue" and "compute" of a request. Rows from the cache were neither queued nor computed."""
        timing, lane = work.timing, work.request.lane
        if timing.started_at is None and len(work.cached) == len(work.rows):
            return
        queued = self._time(timing.queued_at)
        started = ended = self._now()
        if timing.started_at is not None and timing.ended_at is not None:
            # A batch with rows that this request shares with another one may have started before this request.
            started = max(queued, self._time(timing.started_at))
            ended = max(started, self._time(timing.ended_at))
        span = self._tracer.start_span("queue", self._context, start_time=queued)
        self._end_span(span, {"embergem.lane": lane}, error if timing.started_at is None else "", started)
        if timing.started_at is None:
            return
        span = self._tracer.start_span("compute", self._context, start_time=started)
        attributes: Attributes = {
            "embergem.lane": lane,
            "embergem.batches": timing.batches,
            "embergem.batch.rows": timing.batch_rows,
            "embergem.batch.tokens": timing.batch_tokens,
            "embergem.batch.fill": timing.batch_tokens / (timing.batches * self._max_batch_tokens),
        }
        self._end_span(span, attributes, error, ended)

    def _end_span(self, span: Span, attributes: Attributes, error: str, end: int) -> None:
        span.set_attributes(attributes)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def _now(self) -> int:
        """Return the time, in nanoseconds since 1970."""
        return self._offset + time.monotonic_ns()

    def _time(self, seconds: float) -> int:
        """Return a time of `time.monotonic()` in nanoseconds since 1970."""
        return self._offset + round(seconds * 1e9)
