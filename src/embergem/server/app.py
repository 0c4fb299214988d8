"""The server: routes, errors and request ids put together, and uvicorn around them."""

import logging
import signal
import socket
import uuid
from collections.abc import Callable
from http import HTTPStatus

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embergem import __version__
from embergem.config import Settings
from embergem.errors import EmbergemError, UnsupportedOption
from embergem.registry import Registry
from embergem.server import openai
from embergem.server.errors import on_embergem_error, on_failure, on_http_error
from embergem.server.service import Service

logger = logging.getLogger("embergem.server")


class RequestIds:
    """Middleware: every answer carries `x-request-id`, the client's own where it sent one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and add the header to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        number = given if 0 < len(given) <= 128 and given.isprintable() else uuid.uuid4().hex

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = number
            await send(message)

        await self.app(scope, receive, with_id)


async def root(request: Request) -> JSONResponse:
    """Say what this is, for whoever opens the address in a browser."""
    return JSONResponse({"name": "embergem", "version": __version__, "embeddings": "/v1/embeddings"})


async def health(request: Request) -> JSONResponse:
    """Answer as long as the process lives."""
    return JSONResponse({"status": "ok"})


def create_app(registry: Registry, settings: Settings | None = None) -> Starlette:
    """Build the ASGI application over loaded models."""

    async def ready(request: Request) -> JSONResponse:
        """Answer 200 once every model can be asked; models are loaded before the server listens."""
        names = registry.names()
        status = HTTPStatus.OK if names else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse({"status": "ready" if names else "loading", "models": names}, status_code=status)

    app = Starlette(
        routes=[
            Route("/", root),
            Route("/health", health),
            Route("/ready", ready),
            *openai.routes(Service(registry, settings or Settings())),
        ],
        exception_handlers={
            EmbergemError: on_embergem_error,
            HTTPException: on_http_error,
            Exception: on_failure,
        },
    )
    app.add_middleware(RequestIds)
    return app


def serve(
    registry: Registry,
    settings: Settings,
    *,
    host: str,
    port: int,
    log_level: str = "info",
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; requests in work are finished first.

    Raises:
        UnsupportedOption: The address cannot be bound.
    """
    listener = bind(host, port)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        create_app(registry, settings),
        log_level=log_level,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=30,
    )
    server = uvicorn.Server(config)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    for name in registry.names():
        engine = registry.get(name)
        announce(
            f"{name}: {engine.dimensions} dimensions, up to {engine.limit} tokens, {engine.dtype} on "
            f"{engine.instruction_set}" + (f", tasks {', '.join(engine.tasks)}" if engine.tasks else ", no prompts")
        )
    announce(f"serving on {url}/v1, for example:")
    announce(
        f'  curl {url}/v1/embeddings -H "Content-Type: application/json" '
        '-d \'{"model": "default", "input": "What is graphene?"}\''
    )
    # uvicorn raises the signal that stopped it again once it has shut down; a clean stop is not a failure.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with listener:
            server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UnsupportedOption(
            f"cannot listen on {host}:{port}: {error.strerror}. Stop what uses it, or choose another with --port",
            param="port",
        ) from None
    return listener
