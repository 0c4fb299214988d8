"""Every request passes here: whose it is, whether they may, and how much of it."""

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from embergem.config import Key
from embergem.server.call import Access, Call, Notes, Operation
from embergem.server.keys import Forbidden
from embergem.server.service import Service

MAKE_ONE = "make one with `embergem keys new NAME --admin`"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class WrongMediaType(Forbidden):
    """An admin request that a web page could have sent without asking."""

    status = 415
    code = "unsupported_media_type"


def route(operation: Operation, service: Service) -> Route:
    """Make the route of an operation."""

    async def handle(http: HttpRequest) -> Response:
        notes: Notes = http.scope["embergem.notes"]
        notes.path = operation.path
        key = admit(http, operation.access, service)
        if key is not None:
            notes.key = key.name
            service.limiter.begin(key)
        try:
            return await operation.handler(Call(http, service, key, notes))
        finally:
            service.bodies.forget(http)
            if key is not None:
                service.limiter.end(key, notes.tokens)

    return Route(operation.path, handle, methods=[operation.method])


def admit(http: HttpRequest, access: Access, service: Service) -> Key | None:
    """Return whose request it is; None on an open server, and for what is open to all.

    A server without keys is open; to its own machine also for what an admin may do. A page in a browser on that machine
    could post there, but not with the content type of JSON, for which a browser asks first.

    Raises:
        Unauthorized: A key is needed.
        Forbidden: An admin's key is needed.
    """
    if access == "open":
        return None
    key = service.keys.identify(http.headers)
    if access == "admin":
        host = service.settings.host or LOOPBACK[0]
        if key is None and host not in LOOPBACK:
            raise Forbidden(f"this server has no keys and listens on {host}, so nobody is its admin; {MAKE_ONE}")
        if key is not None and not key.admin:
            raise Forbidden(f"the key {key.name!r} is no admin key; {MAKE_ONE}")
        if http.method == "POST" and http.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise WrongMediaType("send the header `Content-Type: application/json`")
    return key
