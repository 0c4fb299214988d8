"""Whether the server lives, whether it can be asked, and what it did: for whoever watches it."""

from http import HTTPStatus

from starlette.responses import Response

from embergem import __version__
from embergem.protocol import Health, Readiness, Root
from embergem.server.call import Call
from embergem.server.encode import json_response


async def root(call: Call) -> Response:
    """Say what this is, for whoever opens the address in a browser."""
    return json_response(Root(version=__version__))


async def health(call: Call) -> Response:
    """Answer as long as the process lives."""
    return json_response(Health())


async def ready(call: Call) -> Response:
    """Answer 200 once every model can be asked that is not loaded only on demand, 503 before.

    A model that failed its self-check counts as failed, though it is loaded. Why a model failed is told here only where
    there are no keys: it may name files.
    """
    registry = call.service.registry
    models = {name: str(registry.status(name)) for name in registry.names()}
    failed = {name: reason for name in models if (reason := registry.reason(name)) is not None}
    loaded = {name: engine for name in models if (engine := registry.peek(name)) is not None}
    unfit = {name: "; ".join(map(str, engine.report.failures)) for name, engine in loaded.items() if not engine.ready}
    failed |= unfit
    models |= dict.fromkeys(unfit, "failed")
    reasons = failed if call.service.keys.open else {}
    if (registry.ready() and not unfit) or (not models and call.service.upstreams):
        return json_response(Readiness("ready", models, reasons))
    answer = Readiness("failed" if failed else "loading", models, reasons)
    return json_response(answer, HTTPStatus.SERVICE_UNAVAILABLE)


async def metrics(call: Call) -> Response:
    """Give the counters to Prometheus."""
    page, media_type = call.service.metrics.page(call.service.registry)
    return Response(page, media_type=media_type)
