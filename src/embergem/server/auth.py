"""Every request passes here: whose it is, whether they may, and how much of it."""

from collections.abc import Callable

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from embergem.config import Key
from embergem.server.api_keys import Forbidden
from embergem.server.call import Access, Call, Notes, Operation
from embergem.server.local import LOOPBACK, MAKE_ONE, require_local
from embergem.server.state import Service


class WrongMediaType(Forbidden):
    """An admin request that a web page could have sent without asking."""

    status = 415
    code = "unsupported_media_type"


def route(operation: Operation, service: Service) -> Route:
    """Make the route of an operation."""

    async def handle(http: HttpRequest) -> ASGIApp:
        notes: Notes = http.scope["embergem.notes"]
        notes.path = operation.path
        key = admit(http, operation.access, service)
        if key is not None:
            notes.key = key.name
            service.limiter.begin(key)
        try:
            response = await operation.handler(Call(http, service, key, notes))
        except BaseException:
            if key is not None:
                service.limiter.end(key)
            raise
        finally:
            service.bodies.forget(http)
        return response if key is None else ended(response, lambda: service.limiter.end(key))

    return Route(operation.path, handle, methods=[operation.method])


def ended(response: Response, end: Callable[[], None]) -> ASGIApp:
    """Send an answer, and call `end` when it is sent or cannot be: a stream may go on for minutes."""

    async def send_all(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await response(scope, receive, send)
        finally:
            end()

    return send_all


def admit(http: HttpRequest, access: Access, service: Service) -> Key | None:
    """Return whose request it is; None on an open server, and for what is open to all.

    A server without keys is open; to its own machine also for what an admin may do, see `require_local`. A page in a
    browser could post there, but not with the content type of JSON, for which a browser asks first.

    Raises:
        Unauthorized: A key is needed.
        Forbidden: An admin's key is needed.
    """
    if access == "open":
        return None
    key = service.keys.identify(http.headers)
    if access == "admin":
        if key is None:
            require_local(http, service.settings.host or LOOPBACK[0])
        if key is not None and not key.admin:
            raise Forbidden(f"the key {key.name!r} is no admin key; {MAKE_ONE}")
        if http.method == "POST" and http.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise WrongMediaType("send the header `Content-Type: application/json`")
    return key
