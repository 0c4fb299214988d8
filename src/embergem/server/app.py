"""The ASGI application: `create_app`, the table of operations, and the middleware around them."""

import asyncio
import logging
from typing import Literal

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as HttpRequest
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from embergem.batch_protocol import (
    Batch,
    BatchList,
    CreateBatch,
    DeletedFile,
    FileList,
    FileObject,
    FileUpload,
)
from embergem.config import Settings
from embergem.errors import EmbergemError, EngineClosed
from embergem.keywords import checked_keywords
from embergem.protocol import (
    EmbeddingsRequest,
    EmbeddingsResponse,
    Forwarded,
    Health,
    Model,
    ModelAnswer,
    ModelList,
    ModelRequest,
    Readiness,
    Root,
    ServerStats,
    TokenizeRequest,
    TokenizeResponse,
)
from embergem.registry import Registry
from embergem.server.access_log import RECORD, AccessLogMiddleware
from embergem.server.auth import require_admin
from embergem.server.errors import (
    ABOUT_FILES,
    handle_embergem_error,
    handle_http_error,
    handle_memory_error,
    handle_unexpected_error,
    without_files,
)
from embergem.server.openapi import RESPONSE_HEADERS, Operation
from embergem.server.otel import application_tracing
from embergem.server.routes.batches import cancel_batch, create_batch, list_batches, retrieve_batch
from embergem.server.routes.chat import chat_completions, completions, responses
from embergem.server.routes.docs import document, page
from embergem.server.routes.embeddings import embeddings
from embergem.server.routes.health import health, metrics, ready, stats
from embergem.server.routes.models import EXPAND, load, model, models, reload, status, unload
from embergem.server.routes.playground import asset, root
from embergem.server.routes.stored_files import (
    ORDERS,
    PURPOSES,
    create_file,
    delete_file,
    file_content,
    list_files,
    retrieve_file,
)
from embergem.server.routes.tokenize import tokenize
from embergem.server.state import TRACE, RequestContext, ServerState

log = logging.getLogger("embergem.server")

PAGES: tuple[tuple[str, Literal["string", "integer"]], ...] = (("after", "string"), ("limit", "integer"))
"""Query parameters of lists that come in pages."""

OPERATIONS = (
    Operation(
        "POST", "/v1/embeddings", embeddings,
        body=EmbeddingsRequest, answer=EmbeddingsResponse, statuses=(404, 413, 429, 503, 504),
    ),
    Operation(
        "POST", "/v1/tokenize", tokenize,
        body=TokenizeRequest, answer=TokenizeResponse, statuses=(404, 413, 429, 503, 504),
    ),
    Operation("POST", "/v1/chat/completions", chat_completions, body=Forwarded, statuses=(404, 413, 502, 503, 504)),
    Operation("POST", "/v1/completions", completions, body=Forwarded, statuses=(404, 413, 502, 503, 504)),
    Operation("POST", "/v1/responses", responses, body=Forwarded, statuses=(404, 413, 502, 503, 504)),
    Operation(
        "POST", "/v1/files", create_file,
        body=FileUpload, form=True, answer=FileObject, statuses=(403, 404, 413, 507),
    ),
    Operation(
        "GET", "/v1/files", list_files,
        answer=FileList, query=(*PAGES, ("order", ORDERS), ("purpose", PURPOSES)), statuses=(404,),
    ),
    Operation("GET", "/v1/files/{file_id}", retrieve_file, answer=FileObject, statuses=(404,)),
    Operation("GET", "/v1/files/{file_id}/content", file_content, answer="application/octet-stream", statuses=(404,)),
    Operation("DELETE", "/v1/files/{file_id}", delete_file, answer=DeletedFile, statuses=(400, 403, 404)),
    Operation("POST", "/v1/batches", create_batch, body=CreateBatch, answer=Batch, statuses=(403, 404, 413, 507)),
    Operation("GET", "/v1/batches", list_batches, answer=BatchList, query=PAGES, statuses=(404,)),
    Operation("GET", "/v1/batches/{batch_id}", retrieve_batch, answer=Batch, statuses=(404,)),
    Operation("POST", "/v1/batches/{batch_id}/cancel", cancel_batch, answer=Batch, statuses=(400, 403, 404)),
    *(
        Operation(
            "POST", f"/v1/models/{handler.__name__}", handler, "admin",
            body=ModelRequest, answer=ModelAnswer, statuses=(404, 413, 503),
        )
        for handler in (load, unload, reload, status)
    ),
    Operation("GET", "/v1/models", models, answer=ModelList, query=(("expand", EXPAND),)),
    Operation("GET", "/v1/models/{name:path}", model, answer=Model, statuses=(404,)),
    Operation("GET", "/health", health, "open", answer=Health),
    Operation("GET", "/ready", ready, "open", answer=Readiness, statuses=(503,)),
    Operation("GET", "/metrics", metrics, answer="text/plain", statuses=(501,)),
    Operation("GET", "/v1/stats", stats, answer=ServerStats),
    Operation("GET", "/openapi.json", document, "open"),
    Operation("GET", "/docs", page, "open", answer="text/html"),
    Operation("GET", "/", root, "open", answer=Root),
    Operation("GET", "/ui/{name}", asset, "open", answer="application/octet-stream", statuses=(404,)),
)  # fmt: skip
"""Every operation of the server: the routes, the access rights and the OpenAPI document come from this table."""


@checked_keywords
def create_app(registry: Registry, settings: Settings | None = None) -> ASGIApp:
    """Build the ASGI application that serves the models of `registry`, to mount in a server of your own.

    The application has no API keys. The caller owns the registry: it calls `registry.start()` to load the models and
    `registry.close()` at the end. docs/operations.md has an example.

    Args:
        registry: The models.
        settings: Limits, defaults and logging; those about sockets (`host`, `port`, `max_connections`, ...) are for
            `embergem serve` and have no effect here.
    """
    settings = settings or Settings()
    return build_app(ServerState(registry, settings, tracing=application_tracing(settings)))


def build_app(state: ServerState) -> ASGIApp:
    """Build the ASGI application of a server."""
    starlette = Starlette(
        routes=[Route(one.path, Endpoint(one, state), methods=[one.method]) for one in OPERATIONS],
        exception_handlers={
            EmbergemError: handle_embergem_error,
            HTTPException: handle_http_error,
            MemoryError: handle_memory_error,
            Exception: handle_unexpected_error,
        },
    )
    # Starlette would redirect a path with a slash at its end to an address made of the client's Host header.
    starlette.router.redirect_slashes = False
    starlette.state.operations = OPERATIONS
    app: ASGIApp = starlette
    if state.settings.cors:
        app = CORSMiddleware(
            app,
            allow_origins=state.settings.cors,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],  # OpenAI's client sends a dozen headers of its own, and they change with its version
            # A page of the internet may reach a server on the user's machine only if the operator listed its origin.
            allow_private_network="*" not in state.settings.cors,
            expose_headers=["retry-after", *RESPONSE_HEADERS],
        )
    if state.tracing is not None:
        from embergem.server.tracing import TracingMiddleware

        app = TracingMiddleware(app, state.tracing)
    return AccessLogMiddleware(app, state.metrics, state.settings)


class Endpoint:
    """An operation as an ASGI application: authenticates the client, applies its rate limits, and calls the handler.

    A key's concurrent requests include those whose response is being sent: a stream may take minutes.
    """

    def __init__(self, operation: Operation, state: ServerState) -> None:
        self.operation = operation
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state, operation = self.state, self.operation
        context = RequestContext(HttpRequest(scope, receive, send), state, scope[RECORD], trace=scope.get(TRACE))
        context.record.route = operation.path
        if operation.access != "open":
            context.key = state.keys.identify(context.http.headers)
        if operation.access == "admin":
            require_admin(context)
        if context.key is not None:
            context.record.key = context.tenant = context.key.name
            context.lane = context.key.lane
            state.limiter.acquire(context.key)
        try:
            try:
                response = await operation.handler(context)
            except asyncio.CancelledError:
                if not state.stopping.is_set():
                    raise
                raise EngineClosed(
                    "The server is stopping, and this request was not done within its drain_timeout. Send the request "
                    "again, to a server that runs."
                ) from None
            except ABOUT_FILES as error:
                if context.sees_files:
                    raise
                raise without_files(error) from error
            finally:
                if context.body_bytes:
                    state.bodies.release(context)
            try:
                await response(scope, receive, send)
            except asyncio.CancelledError:
                if not state.stopping.is_set():
                    raise
                log.warning("The server is stopping, and a response was not sent whole within its drain_timeout.")
        finally:
            if context.key is not None:
                state.limiter.release(context.key)
