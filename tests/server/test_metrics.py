"""Every label of every metric has few values, whatever clients and upstream servers send."""

import asyncio
import json
import string

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from embergem.config import Key, Settings
from embergem.errors import EmbergemError
from embergem.registry import Registry
from embergem.server.access_log import AccessRecord
from embergem.server.api_keys import KeyStore, hash_key
from embergem.server.app import OPERATIONS, build_app
from embergem.server.metrics import BUCKETS, METHODS, STATUSES, engine_metrics
from embergem.server.state import ServerState
from embergem.types import LANES

ROUTES = [operation.path for operation in OPERATIONS]
CODES = {
    "", "not_found", "method_not_allowed", "http_error",  # of Starlette's routing
    "invalid_http", "headers_too_large", "request_timeout", "too_many_connections",  # of the protocol
}  # fmt: skip


def error_codes(kind=EmbergemError):
    yield kind.code
    for one in kind.__subclasses__():
        yield from error_codes(one)


def allowed(registry):
    """Return the values that each label may have."""
    engines = [engine for name in registry.names() if (engine := registry.peek(name)) is not None]
    return {
        "method": METHODS | {"other", ""},
        "path": {*ROUTES, "other", ""},
        "model": {*registry.names(), ""},
        "status": {*map(str, STATUSES), "other"},
        "code": {*error_codes(), *CODES},
        "key": {"", "search"},
        "lane": set(LANES),
        "le": {*map(str, BUCKETS), "+Inf"},
        "dtype": {engine.dtype for engine in engines},
        "instruction_set": {engine.instruction_set for engine in engines},
        "fingerprint": {engine.fingerprint for engine in engines},
    }


def samples(state):
    families = [*state.metrics.server_metrics(), *engine_metrics(state.registry)]
    return [one for family in families for one in family.samples]


def check(state):
    values = allowed(state.registry)
    for sample in samples(state):
        for label, value in sample.labels.items():
            assert value in values[label], (sample.name, label, value)


async def request(app, method, path, headers, body):
    sent = []
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        return next(messages, {"type": "http.disconnect"})

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"]


WORDS = st.text(string.ascii_letters + "-_{}./é", max_size=20)
VALUES = st.text(string.printable.strip() + " ", max_size=20).map(lambda text: text.encode().strip())
HEADERS = st.lists(
    st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"x-request-id", b"x-request-timeout"]), VALUES),
    max_size=2,
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.one_of(WORDS, st.sampled_from(["default", "gemma3_text", "default:query", "gemma3_text:odd"])),
        "model_id": WORDS, "input": WORDS, "task": WORDS, "dimensions": st.integers(),
    },
)  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    line=st.one_of(
        st.sampled_from([(one.method, one.path) for one in OPERATIONS]),
        st.tuples(st.one_of(WORDS, st.sampled_from(sorted(METHODS))), st.sampled_from(ROUTES)),
        st.tuples(st.just("GET"), WORDS.map("/v1/models/{}".format)),
        st.tuples(WORDS, WORDS),
    ),
    headers=HEADERS,
    body=BODIES,
    known=st.booleans(),
)
def check_request(state, app, line, headers, body, known):
    if known:
        headers = [*headers, (b"authorization", b"Bearer secret"), (b"content-type", b"application/json")]
    asyncio.run(request(app, *line, headers, json.dumps(body).encode()))
    check(state)


def test_a_request_is_in_progress_until_its_response(registry, caplog):
    state = ServerState(registry, Settings(log_level="critical", access_log="json"))
    app = build_app(state)
    caplog.set_level("INFO", "embergem.access")
    for _ in range(2):
        assert asyncio.run(request(app, "GET", "/health", [], b"")) == 200
    assert state.metrics.in_flight == 0
    assert {json.loads(record.getMessage())["bytes"] for record in caplog.records} == {len(b'{"status":"ok"}')}


def test_inputs_and_tokens_of_a_request_are_counted(registry):
    state = ServerState(registry, Settings(log_level="critical", access_log="off"))
    body = {"input": [[2, 5, 1], [2, 6, 7, 1], [5] * 2000], "truncate_sequence": True}
    with TestClient(build_app(state)) as client:
        assert client.post("/v1/embeddings", json=body).status_code == 200
    found = {one.name: one.value for one in samples(state)}
    names = ("embergem_inputs_total", "embergem_tokens_total", "embergem_truncated_inputs_total")
    assert [found[name] for name in names] == [3, 3 + 4 + registry.peek(registry.default).limit, 1]


def test_requests_add_no_label_values(registry):
    keys = KeyStore([Key(name="search", sha256=hash_key("secret"))])
    state = ServerState(registry, Settings(log_level="critical", access_log="off"), keys)
    app = build_app(state)
    check_request(state, app)
    known = [(b"authorization", b"Bearer secret"), (b"content-type", b"application/json")]
    assert asyncio.run(request(app, "POST", "/v1/embeddings", known, b"{}")) == 400  # no drawn request may reach it
    check(state)
    assert {one.labels["status"] for one in samples(state) if "status" in one.labels} >= {"200", "400", "401", "404"}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(), st.integers(), st.sampled_from(sorted(error_codes())))
def check_record(state, method, status, code):
    state.metrics.record_response(AccessRecord("id", "client", method, path=method, status=status, code=code))
    check(state)


def test_methods_and_statuses_without_a_name_share_one_value():
    with Registry() as registry:
        check_record(ServerState(registry, Settings()))


def test_thousands_of_methods_and_paths_make_few_series():
    """3,000 methods of 30 kB made a page of 96 MB."""
    with Registry() as registry:
        state = ServerState(registry, Settings())
        for number in range(3000):
            long = f"M{number}" * 5000
            state.metrics.record_response(
                AccessRecord("id", "client", long, path=f"/{long}", status=404, code="not_found")
            )
        page, _ = state.metrics.page(registry, state.texts)
        assert len(page) < 20_000
