"""Whether the server lives, whether it can be asked, and what it did: for whoever watches it."""

from http import HTTPStatus

from starlette.responses import Response

from embergem import __version__
from embergem.server.answers import json_response
from embergem.server.call import Call
from embergem.server.schema import Health, Readiness, Root


async def root(call: Call) -> Response:
    """Say what this is, for whoever opens the address in a browser."""
    return json_response(Root(version=__version__))


async def health(call: Call) -> Response:
    """Answer as long as the process lives."""
    return json_response(Health())


async def ready(call: Call) -> Response:
    """Answer 200 once every model can be asked, 503 before."""
    names = call.service.registry.names()
    status = HTTPStatus.OK if names else HTTPStatus.SERVICE_UNAVAILABLE
    return json_response(Readiness("ready" if names else "loading", names), status)


async def metrics(call: Call) -> Response:
    """Give the counters to Prometheus."""
    page, media_type = call.service.metrics.page(call.service.registry)
    return Response(page, media_type=media_type)
