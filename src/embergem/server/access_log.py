"""Middleware around everything: request ids, the access log, and counting."""

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embergem.config import Settings
from embergem.server.call import Notes
from embergem.server.metrics import Metrics

access = logging.getLogger("embergem.access")


def new_id() -> str:
    """Make an id for a request that brought none."""
    return uuid.uuid4().hex


class Observe:
    """Every answer carries `x-request-id`, the client's own where it sent one, is counted, and leaves a line."""

    def __init__(self, app: ASGIApp, metrics: Metrics, settings: Settings) -> None:
        self.app = app
        self.metrics = metrics
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note what became of it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        notes = Notes(request_id=given if 0 < len(given) <= 128 and given.isprintable() else new_id())
        scope["embergem.notes"] = notes
        status, size = 0, 0

        async def noted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = notes.request_id
            else:
                size += len(message.get("body", b""))
            await send(message)

        self.metrics.in_flight += 1
        start = time.perf_counter()
        try:
            await self.app(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.in_flight -= 1
            self.metrics.answered(scope["method"], notes, status or 499, seconds)
            if self.settings.access_log != "off":
                client = (scope.get("client") or ("-", 0))[0]
                what = (client, scope["method"], scope["path"], status or 499, size, seconds)
                access.info(_line(self.settings, notes, *what))


def refusals(metrics: Metrics, settings: Settings) -> Callable[[Notes, str, int, int], None]:
    """What counts and logs a request that was refused before it was one; for `careful`."""

    def refused(notes: Notes, client: str, status: int, size: int) -> None:
        metrics.refused(status, notes.code)
        if settings.access_log != "off":
            access.info(_line(settings, notes, client, "-", "-", status, size, 0.0))

    return refused


def _line(
    settings: Settings, notes: Notes, client: str, method: str, path: str, status: int, size: int, seconds: float
) -> str:
    fields: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": notes.request_id,
        "client": client,
        "method": method,
        "path": path,
        "status": status,
        "ms": round(seconds * 1000, 2),
        "bytes": size,
    }
    about = {name: getattr(notes, name) for name in ("key", "model", "task", "code", "inputs", "tokens")}
    about |= {"truncated": notes.truncated, "cached": notes.cached}
    fields |= {name: value for name, value in about.items() if value}
    if settings.log_inputs and notes.texts is not None:
        fields["texts"] = notes.texts
    if settings.access_log == "json":
        return msgspec.json.encode(fields).decode()
    return " ".join(_plain(name, value) for name, value in fields.items())


def _plain(name: str, value: Any) -> str:
    """`name=value`, in JSON where the value could be taken for something else: a line break, a second field."""
    text = str(value)
    plain = not isinstance(value, list) and text.isprintable() and not set(text) & set(' "=')
    return f"{name}={text if plain else msgspec.json.encode(value).decode()}"
