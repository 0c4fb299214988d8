"""Who may ask: keys, what they may do, and their limits."""

import json
import logging
import os
import re
import socket
import stat

import httpx
import openai
import pytest
from serving import running, serving
from typer.testing import CliRunner

from embergem.cli.app import app
from embergem.config import Key, Settings, read_keys
from embergem.server.api_keys import KeyStore, Unauthorized, hash_key, new_key
from embergem.server.build import warn_unknown_tasks
from embergem.server.rate_limit import RateLimited, RateLimiter
from embergem.server.run import reload_keys
from embergem.server.state import ServerState

QUIET = Settings(log_level="error", access_log="off")


def key(name="search", secret="s3cret", **fields):
    return Key(name=name, sha256=hash_key(secret), **fields)


@pytest.fixture
def guarded(registry):
    """Address of a server with an everyday key, a limited one and an admin's."""
    keys = [
        key("search", "everyday", task="query"),
        key("limited", "limited", requests_per_minute=1),
        key("root", "admin", admin=True),
    ]
    with running(registry, QUIET, keys) as address:
        yield address


def ask(url, secret=None, path="/v1/embeddings", **headers):
    if secret:
        headers["authorization"] = f"Bearer {secret}"
    return httpx.post(url + path, json={"input": "a"}, headers=headers)


def test_a_key_is_needed_and_its_task_is_applied(guarded):
    assert ask(guarded).status_code == 401
    assert ask(guarded).headers["www-authenticate"] == "Bearer"
    refused = ask(guarded, "wrong").json()["error"]
    assert (refused["type"], refused["code"]) == ("authentication_error", "invalid_api_key")
    assert ask(guarded, "everyday").headers["x-embergem-task"] == "query"
    assert ask(guarded, **{"x-api-key": "everyday"}).status_code == 200
    assert httpx.get(f"{guarded}/health").status_code == httpx.get(f"{guarded}/docs").status_code == 200
    assert httpx.get(f"{guarded}/metrics").status_code == 401


def test_the_official_client_raises_its_own_classes(guarded):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{guarded}/v1", api_key="wrong").embeddings.create(model="default", input="a")
    client = openai.OpenAI(base_url=f"{guarded}/v1", api_key="limited", max_retries=0)
    client.embeddings.create(model="default", input="a")
    with pytest.raises(openai.RateLimitError) as refused:
        client.embeddings.create(model="default", input="a")
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 60
    assert refused.value.code == "rate_limit_exceeded"


def test_the_ring_finds_keys_by_their_hash():
    ring = KeyStore([key("a", "one"), key("b", "two")])
    assert ring.identify({"authorization": "Bearer two"}).name == "b"
    assert ring.identify({"authorization": "bearer  one "}).name == "a"
    for headers in ({}, {"authorization": "Basic one"}, {"authorization": "Bearer " + hash_key("one")}):
        with pytest.raises(Unauthorized):
            ring.identify(headers)
    assert KeyStore().identify({"authorization": "Bearer EMPTY"}) is None


def test_a_server_that_had_keys_is_never_open_again():
    ring = KeyStore()
    assert ring.open
    ring.replace([key()])
    ring.replace([])
    assert not ring.open
    with pytest.raises(Unauthorized):
        ring.identify({})


@pytest.mark.parametrize("content", ["[[keys]\n", "", "keys = []\n"])
def test_keys_that_cannot_be_read_again_stay(caplog, tmp_path, registry, content):
    """A file that is being written is empty for a moment; that must not open the server."""
    service = ServerState(registry, QUIET, KeyStore([key()]))
    (tmp_path / "keys.toml").write_text(content)
    with caplog.at_level(logging.ERROR):
        reload_keys(service, lambda: read_keys(tmp_path / "keys.toml"))
    assert "previous keys stay in force" in caplog.text
    assert service.keys.identify({"x-api-key": "s3cret"}).name == "search"
    with pytest.raises(Unauthorized):
        service.keys.identify({})


def test_a_default_task_that_no_model_has_is_logged(caplog, registry):
    keys = KeyStore([key("a", task="qurey"), key("b", task="query")])
    with caplog.at_level(logging.WARNING):
        warn_unknown_tasks(ServerState(registry, Settings(task="documnet"), keys))
    assert [
        re.search("default task '(.*?)'.*The known tasks are: .*query", record.message)[1] for record in caplog.records
    ] == [
        "documnet",
        "qurey",
    ]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_requests_a_minute():
    clock = Clock()
    limiter, limited = RateLimiter(clock), key(requests_per_minute=2)
    for _ in range(2):
        limiter.acquire(limited)
        limiter.release(limited)
    with pytest.raises(RateLimited) as refused:
        limiter.acquire(limited)
    assert refused.value.retry_after == pytest.approx(30)
    clock.now = 30.001
    limiter.acquire(limited)


def test_tokens_a_minute_are_a_debt():
    clock = Clock()
    limiter, limited = RateLimiter(clock), key(tokens_per_minute=60)
    limiter.acquire(limited)
    limiter.charge(limited, 90)
    with pytest.raises(RateLimited) as refused:
        limiter.acquire(limited)
    assert refused.value.retry_after == pytest.approx(30)
    clock.now = 30
    limiter.acquire(limited)


def test_of_requests_at_once_one_overdraws_the_minute():
    limiter, limited = RateLimiter(Clock()), key(tokens_per_minute=60)
    for _ in range(5):
        limiter.acquire(limited)
    limiter.charge(limited, 90)
    for _ in range(4):
        with pytest.raises(RateLimited, match=r"60 tokens a minute\. Try again in 30 s"):
            limiter.charge(limited, 1)


def test_requests_at_once_and_limits_that_change():
    limiter = RateLimiter(Clock())
    limiter.acquire(key(concurrency=1))
    with pytest.raises(RateLimited, match="1 requests running"):
        limiter.acquire(key(concurrency=1))
    limiter.acquire(key(concurrency=2, requests_per_minute=9))
    limiter.release(key(concurrency=2))
    limiter.release(key(concurrency=2))
    limiter.acquire(key(concurrency=1))


@pytest.fixture
def spending(registry):
    """A server whose key has ten tokens a minute, on a clock that stands still; yields its address and service."""
    keys = KeyStore([key("spender", "spender", tokens_per_minute=10)])
    service = ServerState(registry, QUIET, keys, limiter=RateLimiter(Clock()))
    with serving(service) as address:
        yield address, service.limiter._accounts


def post(url, body, path="/v1/embeddings", secret="spender"):
    return httpx.post(url + path, json=body, headers={"authorization": f"Bearer {secret}"}, timeout=60)


def test_who_hangs_up_has_paid(spending, registry):
    url, accounts = spending
    engine = registry.get("default")
    before = engine.stats().requests
    body = json.dumps({"input": [f"{number}: " + "Graphene is a layer of carbon. " * 5 for number in range(2000)]})
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = (
            f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer spender\r\nContent-Length: {len(body)}"
        )
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        while engine.stats().requests == before:
            assert httpx.get(f"{url}/health").status_code == 200
    while accounts["spender"].running:
        assert httpx.get(f"{url}/health").status_code == 200
    assert accounts["spender"].tokens.level < -2000
    refused = post(url, {"input": "a"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_what_is_refused_costs_nothing(spending):
    url, accounts = spending
    for body in ({"input": "graphene " * 5000}, {"input": "a", "dimensions": 5}, {"input": []}):
        assert post(url, body).status_code == 400
    assert accounts["spender"].tokens.level == 10


def test_counting_tokens_costs_them(spending):
    url, _ = spending
    assert post(url, {"input": "graphene " * 20}, "/v1/tokenize").status_code == 200
    assert post(url, {"input": "a"}, "/v1/tokenize").status_code == 429


def test_a_new_key_is_shown_once_and_kept_as_a_hash(tmp_path):
    file = tmp_path / "keys.toml"
    made = [
        CliRunner().invoke(app, ["keys", "new", name, "-f", str(file), *options])
        for name, options in (("search", ["--task", "query"]), ("root", ["--admin", "--concurrency", "3"]))
    ]
    assert [result.exit_code for result in made] == [0, 0]
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    secrets = [result.stdout.split()[0] for result in made]
    assert not any(secret in file.read_text() for secret in secrets)
    first, second = read_keys(file)
    assert (first.name, first.task, first.sha256) == ("search", "query", hash_key(secrets[0]))
    assert (second.admin, second.concurrency) == (True, 3)
    assert isinstance(CliRunner().invoke(app, ["keys", "new", "root", "-f", str(file)]).exception, ValueError)
    assert new_key()[0] != new_key()[0]
