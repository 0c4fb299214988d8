"""API keys: authentication, admin rights, default tasks and rate limits."""

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
    """Address of a server with three keys: an ordinary one, one with a rate limit, and an admin key."""
    keys = [
        key("search", "ordinary", task="query"),
        key("limited", "limited", requests_per_minute=1),
        key("root", "admin", admin=True),
    ]
    with running(registry, QUIET, keys) as address:
        yield address


def embed(url, secret=None, path="/v1/embeddings", **headers):
    if secret:
        headers["authorization"] = f"Bearer {secret}"
    return httpx.post(url + path, json={"input": "a"}, headers=headers)


def test_a_key_is_required_and_its_task_is_applied(guarded):
    assert embed(guarded).status_code == 401
    assert embed(guarded).headers["www-authenticate"] == "Bearer"
    refused = embed(guarded, "wrong").json()["error"]
    assert (refused["type"], refused["code"]) == ("authentication_error", "invalid_api_key")
    assert embed(guarded, "ordinary").headers["x-embergem-task"] == "query"
    assert embed(guarded, **{"x-api-key": "ordinary"}).status_code == 200
    assert httpx.get(f"{guarded}/health").status_code == httpx.get(f"{guarded}/docs").status_code == 200
    assert httpx.get(f"{guarded}/metrics").status_code == 401


def test_openais_client_raises_its_own_errors(guarded):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{guarded}/v1", api_key="wrong").embeddings.create(model="default", input="a")
    client = openai.OpenAI(base_url=f"{guarded}/v1", api_key="limited", max_retries=0)
    client.embeddings.create(model="default", input="a")
    with pytest.raises(openai.RateLimitError) as refused:
        client.embeddings.create(model="default", input="a")
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 60
    assert refused.value.code == "rate_limit_exceeded"


def test_the_store_finds_keys_by_their_hash():
    store = KeyStore([key("a", "one"), key("b", "two")])
    assert store.identify({"authorization": "Bearer two"}).name == "b"
    assert store.identify({"authorization": "bearer  one "}).name == "a"
    for headers in ({}, {"authorization": "Basic one"}, {"authorization": "Bearer " + hash_key("one")}):
        with pytest.raises(Unauthorized):
            store.identify(headers)
    assert KeyStore().identify({"authorization": "Bearer EMPTY"}) is None


def test_all_digits_of_the_hash_are_compared():
    """The store looks keys up by the first digits of the hash; a key that shares these is another key."""
    digest = hash_key("one")
    others = [Key(name=str(length), sha256=digest[:length] + "0" * (64 - length)) for length in (8, 16, 32, 63)]
    assert all(other.sha256 != digest for other in others)
    with pytest.raises(Unauthorized):
        KeyStore(others).identify({"authorization": "Bearer one"})
    assert KeyStore([*others, key("real", "one")]).identify({"authorization": "Bearer one"}).name == "real"


def test_a_missing_key_is_not_a_key_of_no_characters():
    store = KeyStore([key("empty", "")])
    for headers in ({}, {"authorization": "Bearer "}, {"x-api-key": " "}):
        with pytest.raises(Unauthorized, match="This server needs an API key"):
            store.identify(headers)


def test_a_new_key_has_256_random_bits():
    made = {new_key()[0] for _ in range(10)}
    assert len(made) == 10
    assert {len(one) for one in made} == {len("eg-") + 43}  # 43 characters of base64 hold 32 bytes


def test_a_server_that_had_keys_never_becomes_open():
    store = KeyStore()
    assert store.open
    store.replace([key()])
    store.replace([])
    assert not store.open
    with pytest.raises(Unauthorized):
        store.identify({})


@pytest.mark.parametrize("content", ["[[keys]\n", "", "keys = []\n"])
def test_keys_stay_in_force_if_the_file_cannot_be_used(caplog, tmp_path, registry, content):
    """A file is empty for a moment while it is written; that must not open the server."""
    state = ServerState(registry, QUIET, KeyStore([key()]))
    (tmp_path / "keys.toml").write_text(content)
    with caplog.at_level(logging.ERROR):
        reload_keys(state, lambda: read_keys(tmp_path / "keys.toml"))
    assert "previous keys stay in force" in caplog.text
    assert state.keys.identify({"x-api-key": "s3cret"}).name == "search"
    with pytest.raises(Unauthorized):
        state.keys.identify({})


def test_an_unknown_default_task_is_logged(caplog, registry):
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


def test_requests_a_minute_are_limited():
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


def test_a_key_without_tokens_waits_until_its_debt_is_paid_back():
    clock = Clock()
    limiter, limited = RateLimiter(clock), key(tokens_per_minute=60)
    limiter.acquire(limited)
    limiter.charge(limited, 90)
    with pytest.raises(RateLimited) as refused:
        limiter.acquire(limited)
    assert refused.value.retry_after == pytest.approx(30)
    clock.now = 30
    limiter.acquire(limited)


def test_only_one_of_concurrent_requests_overdraws_the_minute():
    limiter, limited = RateLimiter(Clock()), key(tokens_per_minute=60)
    for _ in range(5):
        limiter.acquire(limited)
    limiter.charge(limited, 90)
    for _ in range(4):
        with pytest.raises(RateLimited, match=r"60 tokens a minute\. Try again in 30 s"):
            limiter.charge(limited, 1)


def test_concurrent_requests_are_limited_and_limits_may_change():
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
    """A server whose key has ten tokens a minute, on a clock that stands still; yields address and accounts."""
    keys = KeyStore([key("spender", "spender", tokens_per_minute=10)])
    state = ServerState(registry, QUIET, keys, limiter=RateLimiter(Clock()))
    with serving(state) as address:
        yield address, state.limiter._accounts


def post(url, body, path="/v1/embeddings", secret="spender"):
    return httpx.post(url + path, json=body, headers={"authorization": f"Bearer {secret}"}, timeout=60)


def test_tokens_are_charged_even_if_the_client_disconnects(spending, registry):
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


def test_a_refused_request_costs_no_tokens(spending):
    url, accounts = spending
    for body in ({"input": "graphene " * 5000}, {"input": "a", "dimensions": 5}, {"input": []}):
        assert post(url, body).status_code == 400
    assert accounts["spender"].tokens.level == 10


def test_tokenizing_costs_tokens(spending):
    url, _ = spending
    assert post(url, {"input": "graphene " * 20}, "/v1/tokenize").status_code == 200
    assert post(url, {"input": "a"}, "/v1/tokenize").status_code == 429


def test_a_new_key_is_printed_once_and_stored_as_a_hash(tmp_path):
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
