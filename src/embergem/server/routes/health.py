"""`GET /health`, `/ready`, `/metrics` and `/v1/stats`: for monitoring."""

import mmap
import time
from http import HTTPStatus
from pathlib import Path

from starlette.responses import Response

from embergem.engine import Engine
from embergem.protocol import Health, Latency, ModelStats, Readiness, ServerStats
from embergem.server.encode import json_response
from embergem.server.metrics import BUCKETS
from embergem.server.state import RequestContext
from embergem.types import LANES


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
    state = context.state
    page, media_type = state.metrics.page(state.registry, state.texts, state.batches)
    return Response(page, media_type=media_type)


async def stats(context: RequestContext) -> Response:
    """Return the counters that the playground shows, as JSON: load, latency, memory, and the work of each model."""
    state = context.state
    registry, metrics = state.registry, state.metrics
    loaded = {name: engine for name in registry.names() if (engine := registry.peek(name)) is not None}
    *counts, seconds = metrics.response_times("/v1/embeddings")
    models = [model_stats(name, engine) for name, engine in loaded.items()]
    return json_response(
        ServerStats(
            uptime=time.monotonic() - state.started_at,
            in_flight=metrics.in_flight,
            connections=None if metrics.connections is None else metrics.connections(),
            memory_bytes=resident_bytes(),
            queued_bytes=sum(state.texts.queued_bytes(lane) for lane in LANES),
            cache_bytes=max((engine.stats().cache_bytes for engine in loaded.values()), default=0),
            latency=Latency(list(BUCKETS), [int(count) for count in counts], seconds),
            models=models,
        )
    )


def model_stats(name: str, engine: Engine) -> ModelStats:
    """Return the counters of one model."""
    found = engine.stats()
    return ModelStats(
        id=name,
        requests=found.requests,
        inputs=found.rows,
        tokens=found.tokens,
        batch_tokens=found.computed_tokens,
        batches=found.batches,
        batch_limit=found.max_batch_tokens,
        cache_hits=found.cache_hits,
        cache_misses=found.cache_misses,
        queue_tokens=sum(found.queue_tokens.values()),
        errors=sum(found.errors.values()),
        weight_bytes=engine.weight_bytes,
    )


def resident_bytes() -> int | None:
    """Return the resident memory of this process; None on a system without /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * mmap.PAGESIZE
