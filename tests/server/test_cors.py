"""CORS: pages of listed origins may send any header and read every answer; other pages may not.

`make test-browser` tries the same with OpenAI's client in a browser.
"""

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import QUIET, running

from embergem.config import Key
from embergem.server.api_keys import hash_key
from embergem.server.app import OPERATIONS
from embergem.server.openapi import RESPONSE_HEADERS

APP = "https://app.example"
OTHER = "https://other.example"

OPENAI = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
    "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
)
"""Headers that a browser asks for when a page uses OpenAI's client."""


@pytest.fixture(scope="module")
def page(registry):
    """A client of a server that lists `APP` and has a key."""
    settings = msgspec.structs.replace(QUIET, cors=(APP,), max_body=1000)
    keys = [Key(name="page", sha256=hash_key("page"))]
    with running(registry, settings, keys) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def preflight(client, path, headers, origin=APP, method="POST", **more):
    asked = {"origin": origin, "access-control-request-method": method, **more}
    if headers is not None:
        asked["access-control-request-headers"] = headers
    return client.options(path, headers=asked)


def allowed(answer):
    return {name.strip().lower() for name in answer.headers.get("access-control-allow-headers", "").split(",")}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_the_headers_of_openais_client_are_allowed_without_a_key(page, operation):
    path = operation.path.replace("{name:path}", "default")
    answer = preflight(page, path, OPENAI, method=operation.method)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP
    assert "Origin" in answer.headers["vary"]
    assert set(OPENAI.split(",")) <= allowed(answer)


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~", min_size=1, max_size=30)


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TOKEN, min_size=1, max_size=20, unique=True))
def test_any_headers_are_allowed(page, names):
    answer = preflight(page, "/v1/embeddings", ", ".join(names))
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
    assert set(names) <= allowed(answer)


@pytest.mark.parametrize("origin", [OTHER, "null", "http://app.example", f"{APP}.evil.example", f"{APP}:8443", "*"])
def test_other_origins_get_nothing(page, origin):
    answer = preflight(page, "/v1/embeddings", OPENAI, origin=origin)
    assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (400, None)
    for key in ("page", "wrong"):
        headers = {"origin": origin, "authorization": f"Bearer {key}"}
        answer = page.post("/v1/embeddings", json={"input": "a"}, headers=headers)
        assert "access-control-allow-origin" not in answer.headers


def test_a_page_may_read_every_answer(page):
    key = {"authorization": "Bearer page"}
    answers = [
        page.post("/v1/embeddings", json={"input": "a"}, headers={"origin": APP, **key}),
        page.post("/v1/embeddings", json={"input": []}, headers={"origin": APP, **key}),
        page.post("/v1/embeddings", json={"input": "a"}, headers={"origin": APP}),
        page.post("/v1/models/load", json={"model_id": "default"}, headers={"origin": APP, **key}),
        page.post("/v1/embeddings", json={"input": "a", "model": "x"}, headers={"origin": APP, **key}),
        page.get("/none", headers={"origin": APP, **key}),
        page.put("/v1/embeddings", headers={"origin": APP, **key}),
        page.post("/v1/embeddings", content=b" " * 2000, headers={"origin": APP, **key}),
        page.post("/v1/embeddings", content=b"{}", headers={"origin": APP, "content-encoding": "br", **key}),
    ]
    assert [answer.status_code for answer in answers] == [200, 400, 401, 403, 404, 404, 405, 413, 415]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == APP
        exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
        assert {"retry-after", *RESPONSE_HEADERS} <= exposed


def test_a_page_of_a_listed_origin_may_reach_a_server_in_its_own_network(page, registry):
    """A page of any origin may not: it could look for servers on the machines of its visitors."""
    more = {"access-control-request-private-network": "true"}
    answer = preflight(page, "/v1/embeddings", OPENAI, **more)
    assert (answer.status_code, answer.headers["access-control-allow-private-network"]) == (200, "true")
    with running(registry, msgspec.structs.replace(QUIET, cors=("*",))) as url, httpx.Client(base_url=url) as client:
        assert preflight(client, "/v1/embeddings", OPENAI).status_code == 200
        assert preflight(client, "/v1/embeddings", OPENAI, **more).status_code == 400


def test_a_server_without_origins_allows_no_page(http):
    answer = preflight(http, "/v1/embeddings", OPENAI)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
