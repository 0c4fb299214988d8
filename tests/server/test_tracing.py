"""OpenTelemetry: the spans of requests, their parents and attributes, forwarding, and when tracing is on."""

import asyncio
import importlib
import logging
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from goldens import DATA
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv import attributes as conventions
from opentelemetry.trace import SpanKind, StatusCode
from serving import QUIET, serving
from starlette.applications import Starlette
from starlette.routing import Mount

from embergem.config import EmbeddingEntry, Settings, UpstreamEntry
from embergem.engine import Request
from embergem.options import LoadOptions
from embergem.server.app import create_app
from embergem.server.build import build_state
from embergem.server.state import ServerState
from embergem.server.tracing import MAX_VALUE, Tracing
from embergem.server.upstream import Upstream

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "vendor=7"}
FRESH = iter(range(10**6))


class Recorded:
    """A provider whose ended spans are kept."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    def take(self):
        """Return the spans of the one request since the last call, by name, oldest first.

        The span of a request ends after its response was sent, so wait for it.
        """
        end = time.monotonic() + 30
        while not any(span.kind is SpanKind.SERVER for span in self.spans):
            assert time.monotonic() < end, "the request has no span"
            time.sleep(0.001)
        spans = sorted(self.spans, key=lambda span: span.start_time)
        self._exporter.clear()
        assert len({span.context.trace_id for span in spans}) == 1
        return {span.name: span for span in spans}


@contextmanager
def traced(registry, settings=QUIET, **parts):
    """Serve with tracing; yields an HTTP client and the recorded spans."""
    recorded = Recorded()
    state = ServerState(registry, settings, tracing=Tracing(recorded.provider), **parts)
    # A connection each: after a request that it could not read the server closes it, maybe when the next has begun.
    limits = httpx.Limits(max_keepalive_connections=0)
    with serving(state) as url, httpx.Client(base_url=url, timeout=60, limits=limits) as http:
        yield http, recorded


@pytest.fixture(scope="module")
def server(registry):
    with traced(registry) as both:
        yield both


def ask(server, method, path, **options):
    """Send a request; return the response and its spans by name."""
    http, recorded = server
    response = http.request(method, path, **options)
    return response, recorded.take()


def embed(server, texts, **options):
    body = {"input": texts} | options.pop("body", {})
    return ask(server, "POST", "/v1/embeddings", json=body, **options)


def fresh(words=3):
    """Return a text that is not in the cache."""
    return f"text {next(FRESH)}" + " graphene" * words


def test_a_request_has_spans_of_its_stages_below_the_span_of_its_client(server):
    texts = [fresh(), fresh(20)]
    response, spans = embed(server, texts, headers=PARENT)
    assert list(spans) == ["POST /v1/embeddings", "tokenize", "queue", "compute", "encode"]
    request, *stages = spans.values()
    assert format(request.context.trace_id, "032x") == TRACE_ID
    assert format(request.parent.span_id, "016x") == PARENT_ID
    assert request.context.trace_state["vendor"] == "7"
    assert request.kind is SpanKind.SERVER
    for span in stages:
        assert span.parent.span_id == request.context.span_id
        assert (span.kind, span.status.status_code) == (SpanKind.INTERNAL, StatusCode.UNSET)
    times = [time for span in stages for time in (span.start_time, span.end_time)]
    assert times == sorted(times)
    assert request.start_time <= times[0]
    assert times[-1] <= request.end_time

    tokens = response.json()["usage"]["prompt_tokens"]
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v1/embeddings",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
        "user_agent.original": f"python-httpx/{httpx.__version__}",
        "embergem.model": "gemma3_text",
        "embergem.inputs": 2,
        "embergem.tokens": tokens,
    }
    assert spans["tokenize"].attributes == {"embergem.rows": 2, "embergem.tokens": tokens}
    assert spans["queue"].attributes == {"embergem.lane": "interactive"}
    computed = dict(spans["compute"].attributes)
    assert 0 < computed.pop("embergem.batch.fill") <= 1
    assert computed == {
        "embergem.lane": "interactive",
        "embergem.batches": 1,
        "embergem.batch.rows": 2,
        "embergem.batch.tokens": tokens,
    }
    assert spans["encode"].attributes == {"embergem.dimensions": 768 // 8, "embergem.bytes": len(response.content)}


def test_probes_and_metrics_have_no_spans(server):
    http, recorded = server
    for path in ("/health", "/ready", "/metrics"):
        assert http.get(path).status_code == 200
    embed(server, fresh())  # all spans are of this request
    assert not recorded.spans


def test_without_a_parent_a_request_begins_a_trace(server):
    for headers in ({}, {"traceparent": "00-" + "0" * 32 + "-1-01"}, {"traceparent": "x" * 5000, "tracestate": "a=1"}):
        request, *stages = embed(server, fresh(), headers=headers)[1].values()
        assert request.parent is None
        assert len(stages) == 4


def test_an_unsampled_parent_gives_no_spans(server, registry):
    http, recorded = server
    http.post("/v1/embeddings", json={"input": fresh()}, headers={"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"})
    embed(server, fresh())  # the next request, so the first one has ended
    assert not recorded.spans


def test_cached_inputs_are_neither_queued_nor_computed():
    state = build_state(QUIET, [EmbeddingEntry(name="bert", options=LoadOptions(model=str(DATA / "bert_mean")))], [])
    with state.registry, traced(state.registry) as server:
        state.registry.load("bert")
        embed(server, "water")
        spans = embed(server, ["water", "water"])[1]
        assert list(spans) == ["POST /v1/embeddings", "tokenize", "encode"]
        assert spans["POST /v1/embeddings"].attributes["embergem.cached"] == 2
        spans = embed(server, ["water", "fire"])[1]
        assert spans["compute"].attributes["embergem.batch.rows"] == 1


def test_long_texts_also_wait_for_a_worker_and_run_in_several_batches(server):
    texts = [fresh(8) for _ in range(400)]
    spans = embed(server, texts)[1]
    assert list(spans) == ["POST /v1/embeddings", "tokenize queue", "tokenize", "queue", "compute", "encode"]
    compute = spans["compute"].attributes
    assert compute["embergem.lane"] == spans["queue"].attributes["embergem.lane"] == "bulk"
    assert compute["embergem.batches"] > 1
    assert compute["embergem.batch.rows"] == 400
    assert 0.5 < compute["embergem.batch.fill"] <= 1


def test_tokenizing_has_spans(server):
    response, spans = ask(server, "POST", "/v1/tokenize", json={"input": ["a b", "c"]})
    assert list(spans) == ["POST /v1/tokenize", "tokenize queue", "tokenize", "encode"]
    counts = [row["count"] for row in response.json()["data"]]
    assert spans["tokenize"].attributes == {"embergem.rows": 2, "embergem.tokens": sum(counts)}
    assert spans["encode"].attributes == {"embergem.bytes": len(response.content)}


def test_an_error_is_recorded_on_the_request_and_on_the_stage_that_it_ended(server):
    spans = embed(server, "graphene " * 500)[1]
    request = spans["POST /v1/embeddings"]
    assert request.status.status_code is StatusCode.UNSET  # the conventions count only 5xx as errors of a server
    assert request.attributes["embergem.error_code"] == "context_length_exceeded"
    assert "error.type" not in request.attributes
    assert spans["tokenize"].status.status_code is StatusCode.ERROR
    assert spans["tokenize"].attributes["error.type"] == "context_length_exceeded"
    spans = embed(server, "a", body={"model": "none"})[1]
    assert list(spans) == ["POST /v1/embeddings"]
    assert spans["POST /v1/embeddings"].attributes["embergem.error_code"] == "model_not_found"


def test_a_deadline_in_the_queue_ends_the_span_of_the_queue(server, registry):
    engine = registry.peek("gemma3_text")
    with blocked(engine):
        response, spans = embed(server, fresh(), headers={"x-request-timeout": "0.05"})
    assert response.status_code == 504
    assert list(spans) == ["POST /v1/embeddings", "tokenize", "queue"]
    assert spans["queue"].attributes["error.type"] == "deadline_exceeded"
    request = spans["POST /v1/embeddings"]
    assert (request.status.status_code, request.attributes["error.type"]) == (StatusCode.ERROR, "deadline_exceeded")


@contextmanager
def blocked(engine):
    """Keep the interactive lane of an engine busy with a batch that ends with the block."""
    ended, running, compute = threading.Event(), threading.Event(), engine._loop._compute

    def wait(*arguments):
        running.set()
        ended.wait(30)
        return compute(*arguments)

    engine._loop._compute = wait
    try:
        work = engine.submit(Request(texts=[fresh()]))
        assert running.wait(30)
        yield
        ended.set()
        work.result(30)
    finally:
        ended.set()
        engine._loop._compute = compute


def test_an_unexpected_exception_is_named_without_its_message(server, monkeypatch):
    def fail(*_):
        raise RuntimeError("s3cret")

    monkeypatch.setattr("embergem.server.routes.embeddings.encode_response", fail)
    spans = embed(server, fresh())[1]
    request = spans["POST /v1/embeddings"]
    assert request.status.status_code is StatusCode.ERROR
    assert (request.attributes["error.type"], request.attributes["http.response.status_code"]) == (
        "internal_error",
        500,
    )
    assert [(event.name, dict(event.attributes)) for event in request.events] == [
        ("exception", {"exception.type": "RuntimeError"})
    ]
    assert spans["encode"].status.status_code is StatusCode.ERROR
    assert "s3cret" not in "".join(span.to_json() for span in spans.values())


def test_spans_have_no_texts_and_bounded_attributes(server):
    secret = "s3cret" + " graphene" * 500
    requests = [
        embed(server, secret, body={"title": secret, "user": secret, "task": "document", "truncate_sequence": True}),
        embed(server, secret, body={"dimensions": 7}),
        ask(server, "POST", "/v1/embeddings", content=b'{"input": "\\ud800 s3cret"}'),
        embed(server, "a", body={"model": "s3cret"}),
        embed(server, "a", params={"q": "s3cret"}, headers={"x-request-timeout": "s3cret", "authorization": "s3cret"}),
        ask(server, "POST", "/v1/embeddings", content=b'{"input": "s3cret'),
        ask(server, "POST", "/v1/tokenize", json={"input": secret}),
    ]
    for _, spans in requests:
        assert "s3cret" not in "".join(span.to_json() for span in spans.values())
    _, spans = ask(server, "PROPFIND", "/" + "y" * 1000, headers={"user-agent": "z" * 1000})
    (request,) = spans.values()
    assert request.name == "HTTP"
    assert request.attributes["http.request.method"] == "_OTHER"
    assert request.attributes["http.request.method_original"] == "PROPFIND"
    for name in ("url.path", "user_agent.original"):
        assert len(request.attributes[name]) == MAX_VALUE


def test_attributes_without_embergem_in_their_name_are_stable_conventions(server):
    requests = [embed(server, fresh()), embed(server, "graphene " * 500), ask(server, "PROPFIND", "/coffee")]
    known = set()
    for name in ("client", "error", "http", "network", "server", "url", "user_agent"):
        module = importlib.import_module(f"{conventions.__name__}.{name}_attributes")
        known |= {value for value in vars(module).values() if isinstance(value, str)}
    used = {name for _, spans in requests for span in spans.values() for name in span.attributes}
    assert {name for name in used if not name.startswith("embergem.")} <= known
    assert "http.request.method_original" in used


def test_the_access_log_names_the_trace(registry, caplog):
    settings = Settings(log_level="error", access_log="text")
    with traced(registry, settings) as server, caplog.at_level(logging.INFO, logger="embergem.access"):
        logging.getLogger("embergem.access").setLevel(logging.INFO)
        embed(server, fresh(), headers=PARENT)
    assert f"trace={TRACE_ID}" in caplog.records[-1].message


def upstream(url):
    entry = UpstreamEntry(name="there", upstream=f"{url}/v1", upstream_model="gemma3_text")
    return {"there": Upstream(entry, 30)}


def test_a_forwarded_request_continues_in_the_spans_of_the_upstream_server(server, registry):
    http, recorded = server
    with traced(registry, upstreams=upstream(http.base_url)) as front:
        spans = embed(front, fresh(), body={"model": "there"}, headers=PARENT)[1]
        there = recorded.take()
        gone = embed(front, "graphene " * 500, body={"model": "there"})[1]["POST"]
    assert list(spans) == ["POST /v1/embeddings", "POST"]
    forwarded, request = spans["POST"], there["POST /v1/embeddings"]
    assert forwarded.kind is SpanKind.CLIENT
    assert forwarded.parent.span_id == spans["POST /v1/embeddings"].context.span_id
    assert request.parent.span_id == forwarded.context.span_id
    assert format(request.context.trace_id, "032x") == TRACE_ID
    assert request.context.trace_state["vendor"] == "7"
    assert dict(forwarded.attributes) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.full": f"{http.base_url}/v1/embeddings",
        "server.address": "127.0.0.1",
        "server.port": http.base_url.port,
    }
    assert (gone.status.status_code, gone.attributes["error.type"]) == (StatusCode.ERROR, "400")
    recorded.take()


def test_a_failed_upstream_server_is_an_error_of_its_span_whose_address_has_no_credentials(registry):
    entry = UpstreamEntry(name="gone", upstream="http://user:s3cret@127.0.0.1:9/v1")
    with traced(registry, upstreams={"gone": Upstream(entry, 30)}) as server:
        spans = ask(server, "POST", "/v1/chat/completions", json={"model": "gone"})[1]
    assert spans["POST"].attributes["error.type"] == "upstream_failed"
    assert spans["POST"].attributes["url.full"] == "http://127.0.0.1:9/v1/chat/completions"
    assert spans["POST /v1/chat/completions"].status.status_code is StatusCode.ERROR


def test_a_server_without_tracing_passes_the_trace_on(server, registry):
    http, recorded = server
    state = ServerState(registry, QUIET, upstreams=upstream(http.base_url))
    with serving(state) as front:
        httpx.post(f"{front}/v1/embeddings", json={"input": fresh(), "model": "there"}, headers=PARENT)
    request = recorded.take()["POST /v1/embeddings"]
    assert format(request.parent.span_id, "016x") == PARENT_ID
    assert request.context.trace_state["vendor"] == "7"


def test_a_mounted_application_uses_the_provider_and_the_active_span_of_its_process(registry, monkeypatch):
    recorded = Recorded()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorded.provider)
    app = Starlette(routes=[Mount("/embed", create_app(registry, Settings(access_log="off", otel=True)))])

    async def post():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            await http.post("/embed/v1/embeddings", json={"input": fresh()}, headers=PARENT)

    with trace.get_tracer("caller").start_as_current_span("caller") as caller:
        asyncio.run(post())
    spans = recorded.take()
    request = spans["POST /embed/v1/embeddings"]
    assert request.parent.span_id == caller.get_span_context().span_id
    assert request.attributes["http.route"] == "/embed/v1/embeddings"
