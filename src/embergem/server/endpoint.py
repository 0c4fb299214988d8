"""`Endpoint`: an operation as an ASGI application, and `answer`, which calls its handler."""

import asyncio
import logging

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from embergem.errors import EngineClosed
from embergem.server.access_log import RECORD
from embergem.server.auth import require_admin
from embergem.server.errors import ABOUT_FILES, without_files
from embergem.server.openapi import Handler, Operation
from embergem.server.state import TRACE, RequestContext, ServerState

log = logging.getLogger("embergem.server")


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
            context.record.key = context.key.name
            state.limiter.acquire(context.key)
        try:
            try:
                response = await answer(operation.handler, context)
            except asyncio.CancelledError:
                if not state.stopping.is_set():
                    raise
                raise EngineClosed(
                    "The server is stopping, and this request was not done within its drain_timeout. Send the request "
                    "again, to a server that runs."
                ) from None
            try:
                await response(scope, receive, send)
            except asyncio.CancelledError:
                if not state.stopping.is_set():
                    raise
                log.warning("The server is stopping, and a response was not sent whole within its drain_timeout.")
        finally:
            if context.key is not None:
                state.limiter.release(context.key)


async def answer(handler: Handler, context: RequestContext) -> Response:
    """Call a handler. Errors that name files of the server are hidden from clients that may not see them."""
    try:
        return await handler(context)
    except ABOUT_FILES as error:
        if context.sees_files:
            raise
        raise without_files(error) from error
    finally:
        if context.body_bytes:
            context.state.bodies.release(context)
