"""Models of upstream servers: requests are forwarded, and responses and streams are returned."""

import asyncio
import threading
from contextlib import contextmanager

import httpx
import openai
import pytest
import uvicorn
from goldens import DATA
from serving import QUIET, configured, serving
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from embergem.config import EmbeddingEntry, Key, UpstreamEntry
from embergem.errors import UnsupportedOption
from embergem.options import LoadOptions
from embergem.server.api_keys import hash_key
from embergem.server.build import build_state
from embergem.server.run import bind
from embergem.server.upstream import Upstream


class Other:
    """An upstream server of chat models that records its requests."""

    def __init__(self):
        self.seen = []
        self.continue_stream = threading.Event()
        self.waiting = 0
        self.disconnected = threading.Event()

    async def chat(self, request):
        body = await request.json()
        self.seen.append((request.url.path, body, request.headers))
        if cookie := body.get("cookie"):
            return JSONResponse({}, headers={"set-cookie": cookie})
        if body.get("max_tokens") == 0:
            return JSONResponse({"error": {"message": "no", "type": "x", "param": None, "code": "c"}}, 422)
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hello"}
            return JSONResponse({"id": "1", "model": body["model"], "choices": [{"index": 0, "message": message}]})
        return StreamingResponse(self.parts(), media_type="text/event-stream")

    async def silent(self, request):
        """Send no response until the client disconnects."""
        await request.body()
        self.waiting += 1
        while not await request.is_disconnected():
            await asyncio.sleep(0.001)
        self.waiting -= 1
        self.disconnected.set()
        return JSONResponse({})

    async def parts(self):
        yield b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "hel"}}]}\n\n'
        while not self.continue_stream.is_set():  # the test reads the first half before the second is sent
            await asyncio.sleep(0.001)
        yield b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "lo"}}]}\n\ndata: [DONE]\n\n'

    @contextmanager
    def running(self):
        routes = [Route(path, self.chat, methods=["POST"]) for path in ("/api/chat/completions", "/api/embeddings")]
        routes.append(Route("/api/completions", self.silent, methods=["POST"]))
        with bind("127.0.0.1", 0) as listener:
            server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/"
            finally:
                server.should_exit = True
                thread.join()


@pytest.fixture(scope="module")
def other():
    return Other()


@pytest.fixture(scope="module")
def url(other):
    patch = pytest.MonkeyPatch()
    patch.setenv("OTHER_KEY", "their-key")
    gemma = EmbeddingEntry(name="gemma", options=LoadOptions(model=str(DATA / "gemma3_text")))
    with other.running() as address:
        llama = UpstreamEntry(
            name="llama", upstream=address, aliases=("l",), upstream_model="meta/llama", upstream_key_env="OTHER_KEY"
        )
        gone = UpstreamEntry(name="gone", upstream="http://127.0.0.1:9/v1")
        with configured(gemma, llama, gone) as (own, registry):
            registry.wait()
            yield own
    patch.undo()


def test_a_chat_is_forwarded_with_the_upstream_name_of_the_model(url, other):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="ours")
    answer = client.chat.completions.create(model="l", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "hello"
    path, body, headers = other.seen[-1]
    assert (path, body["model"]) == ("/api/chat/completions", "meta/llama")
    assert headers["authorization"] == "Bearer their-key"


def test_a_stream_is_returned_as_it_arrives(url, other):
    other.continue_stream.clear()
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="ours")
    stream = client.chat.completions.create(model="llama", messages=[], stream=True)
    first = next(iter(stream)).choices[0].delta.content
    other.continue_stream.set()
    assert first + "".join(part.choices[0].delta.content for part in stream) == "hello"


def test_embeddings_of_an_upstream_model_are_forwarded(url, other):
    answer = httpx.post(f"{url}/v1/embeddings", json={"model": "llama", "input": "a", "inputs": "theirs"})
    assert answer.status_code == 200
    assert answer.headers["x-embergem-upstream"] == "llama"
    assert other.seen[-1][1] == {"model": "meta/llama", "input": "a", "inputs": "theirs"}
    assert len(httpx.post(f"{url}/v1/embeddings", json={"input": "a"}).json()["data"]) == 1


@pytest.mark.parametrize("cookie", ["session=a", "session=b; Path=/; Max-Age=999", "session=c; Domain=127.0.0.1"])
def test_a_cookie_of_the_upstream_server_is_not_kept(url, other, cookie):
    """It was meant for the client of that response, and the next request may come from another client."""
    for path in ("chat/completions", "embeddings"):
        answer = httpx.post(f"{url}/v1/{path}", json={"model": "llama", "input": "a", "cookie": cookie})
        assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
        httpx.post(f"{url}/v1/{path}", json={"model": "llama", "input": "a"}, headers={"cookie": "own=1"})
        assert "cookie" not in other.seen[-1][2]


def test_errors_of_the_upstream_server_are_returned(url):
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "llama", "max_tokens": 0})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "c")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("chat/completions", {"model": "gone"}, 502, "does not respond"),
        ("chat/completions", {"model": "gemma"}, 404, "upstream models are: llama, l, gone"),
        ("responses", [], 400, "JSON object"),
        ("completions", {"model": 5}, 400, "JSON object"),
    ],
)
def test_requests_that_cannot_be_forwarded_are_refused(url, path, body, status, words):
    answer = httpx.post(f"{url}/v1/{path}", json=body)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text


@pytest.mark.parametrize("path", ["chat/completions", "embeddings"])
@pytest.mark.parametrize(
    "content",
    [b'{"model": "llama", "user": "\xff"}', b'{"model": "llama", "\xff": 5}', b'{"model": "llama", "user": 1e}'],
)
def test_a_body_that_is_not_json_is_not_forwarded(url, path, content):
    answer = httpx.post(f"{url}/v1/{path}", content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_a_lone_surrogate_is_not_forwarded(url, other):
    before = len(other.seen)
    for path in ("embeddings", "chat/completions"):
        answer = httpx.post(f"{url}/v1/{path}", content=rb'{"model": "llama", "input": "a\ud800"}')
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_text")
    assert len(other.seen) == before


def test_unread_fields_and_headers_are_forwarded_unchanged(url, other):
    content = b'{"model": "llama", "messages": [], "big": 1e999, "long": 12345678901234567890123, "none": null}'
    headers = {"x-request-id": "größe".encode("latin-1"), "accept-language": "größe".encode("latin-1")}
    assert httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers).status_code == 200
    _, body, seen = other.seen[-1]
    assert body == {"model": "meta/llama", "messages": [], "big": float("inf"), "long": 12345678901234567890123}
    assert (seen["x-request-id"], seen["accept-language"]) == ("größe", "größe")
    httpx.post(f"{url}/v1/chat/completions", content=content, headers={"x-request-id": "x" * 200})
    assert len(other.seen[-1][2]["x-request-id"]) == 32  # the id in the access log


def test_an_upstream_response_has_a_deadline(url, other):
    late = httpx.post(f"{url}/v1/completions", json={"model": "llama"}, headers={"x-request-timeout": "0.1"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    bad = httpx.post(f"{url}/v1/completions", json={"model": "llama"}, headers={"x-request-timeout": "soon"})
    assert bad.status_code == 400


def test_a_disconnect_of_the_client_ends_the_upstream_request(url, other):
    async def send_requests():
        async with httpx.AsyncClient(timeout=60) as client:
            asked = asyncio.create_task(client.post(f"{url}/v1/completions", json={"model": "llama"}))
            while not other.waiting:
                await asyncio.sleep(0.001)
            other.disconnected.clear()
            asked.cancel()
            await asyncio.wait([asked])

    asyncio.run(asyncio.wait_for(send_requests(), 30))
    assert other.disconnected.wait(30)


def test_waiting_requests_do_not_block_others(url, other):
    """The number of connections to the upstream server has no limit; client connections have one."""

    async def send_requests():
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None)) as client:
            asked = [
                asyncio.create_task(client.post(f"{url}/v1/completions", json={"model": "llama"})) for _ in range(120)
            ]
            while other.waiting < 120:
                await asyncio.sleep(0.001)
            answer = await client.post(f"{url}/v1/chat/completions", json={"model": "llama"})
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
            return answer.status_code

    assert asyncio.run(asyncio.wait_for(send_requests(), 30)) == 200


def test_upstream_models_are_listed(url):
    described = httpx.get(f"{url}/v1/models/l").json()
    assert (described["status"], described["root"], described["owned_by"]) == ("upstream", "llama", "upstream")


def test_a_missing_upstream_key_is_an_error_at_the_start(monkeypatch):
    monkeypatch.delenv("OTHER_KEY", raising=False)
    entry = UpstreamEntry(name="llama", upstream="http://localhost/v1", upstream_key_env="OTHER_KEY")
    with pytest.raises(UnsupportedOption, match="OTHER_KEY is not set"):
        Upstream(entry, QUIET.request_timeout)


def test_connections_to_the_upstream_server_are_closed_with_the_server(other):
    with other.running() as address:
        state = build_state(QUIET, [UpstreamEntry(name="llama", upstream=address)], ())
        with serving(state) as url:
            answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "llama", "messages": []})
            assert answer.status_code == 200
            client = state.upstreams["llama"]._client
            assert not client.is_closed
        assert client.is_closed
        state.registry.close()


def test_a_stream_counts_as_running_until_its_last_part(other):
    """A key with `concurrency=1` cannot start a second request while the first response is being sent."""
    limited = Key(name="one", sha256=hash_key("one"), concurrency=1)
    other.continue_stream.clear()
    with (
        other.running() as address,
        configured(UpstreamEntry(name="llama", upstream=address), keys=[limited]) as (url, _),
    ):
        headers = {"authorization": "Bearer one"}
        ask = {"model": "llama", "stream": True, "messages": []}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=ask, headers=headers, timeout=60) as first:
            parts = first.iter_bytes()
            assert b"hel" in next(parts)
            second = httpx.post(f"{url}/v1/chat/completions", json=ask, headers=headers, timeout=60)
            assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            other.continue_stream.set()
            assert b"[DONE]" in b"".join(parts)
        while httpx.get(f"{url}/v1/models", headers=headers).status_code == 429:
            pass  # the server releases the key after the client has the last part
