"""`GET /health`, `/ready`, `/metrics` and `/`: for monitoring.

Separate because each API surface has a file of its own.
"""

from http import HTTPStatus

from starlette.responses import Response

from embergem import __version__
from embergem.protocol import Health, Readiness, Root
from embergem.server.encode import json_response
from embergem.server.state import RequestContext


async def root(context: RequestContext) -> Response:
    """Name this server and its version."""
    return json_response(Root(version=__version__))


async def health(context: RequestContext) -> Response:
    """Answer 200 as long as the process runs."""
    return json_response(Health())


async def ready(context: RequestContext) -> Response:
    """Answer 200 once every model that is not lazy is loaded and passed its self-check, 503 before.

    A model that failed its self-check counts as failed. The reasons of failures are given only on a server without API
    keys, because they may name files.
    """
    registry = context.state.registry
    models = {name: str(registry.status(name)) for name in registry.names()}
    failed = {name: reason for name in models if (reason := registry.reason(name)) is not None}
    loaded = {name: engine for name in models if (engine := registry.peek(name)) is not None}
    unfit = {name: "; ".join(map(str, engine.report.failures)) for name, engine in loaded.items() if not engine.ready}
    failed |= unfit
    models |= dict.fromkeys(unfit, "failed")
    reasons = failed if context.sees_files else {}
    if (registry.ready() and not unfit) or (not models and context.state.upstreams):
        return json_response(Readiness("ready", models, reasons))
    answer = Readiness("failed" if failed else "loading", models, reasons)
    return json_response(answer, HTTPStatus.SERVICE_UNAVAILABLE)


async def metrics(context: RequestContext) -> Response:
    """Return the counters in Prometheus' text format."""
    page, media_type = context.state.metrics.page(context.state.registry, context.state.texts)
    return Response(page, media_type=media_type)
