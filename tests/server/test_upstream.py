"""Models of other servers: requests go on, answers come back, streams stream."""

import asyncio
import threading
from contextlib import contextmanager

import httpx
import openai
import pytest
import uvicorn
from goldens import DATA
from serving import QUIET, configured
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from embergem.config import EmbeddingEntry, Key, UpstreamEntry
from embergem.errors import UnsupportedOption
from embergem.options import LoadOptions
from embergem.server.api_keys import hash_key
from embergem.server.run import bind
from embergem.server.upstream import Upstream


class Other:
    """A server of chat models that remembers what it was asked."""

    def __init__(self):
        self.seen = []
        self.go_on = threading.Event()
        self.waiting = 0
        self.left = threading.Event()

    async def chat(self, request):
        body = await request.json()
        self.seen.append((request.url.path, body, request.headers))
        if body.get("max_tokens") == 0:
            return JSONResponse({"error": {"message": "no", "type": "x", "param": None, "code": "c"}}, 422)
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hello"}
            return JSONResponse({"id": "1", "model": body["model"], "choices": [{"index": 0, "message": message}]})
        return StreamingResponse(self.parts(), media_type="text/event-stream")

    async def silent(self, request):
        """Say nothing until the other side hangs up."""
        await request.body()
        self.waiting += 1
        while not await request.is_disconnected():
            await asyncio.sleep(0.001)
        self.waiting -= 1
        self.left.set()
        return JSONResponse({})

    async def parts(self):
        yield b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "hel"}}]}\n\n'
        while not self.go_on.is_set():  # the second half comes only after the first was seen
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


def test_a_chat_goes_on_under_the_name_that_is_known_there(url, other):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="ours")
    answer = client.chat.completions.create(model="l", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == "hello"
    path, body, headers = other.seen[-1]
    assert (path, body["model"]) == ("/api/chat/completions", "meta/llama")
    assert headers["authorization"] == "Bearer their-key"


def test_streams_stream(url, other):
    other.go_on.clear()
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="ours")
    stream = client.chat.completions.create(model="llama", messages=[], stream=True)
    first = next(iter(stream)).choices[0].delta.content
    other.go_on.set()
    assert first + "".join(part.choices[0].delta.content for part in stream) == "hello"


def test_embeddings_of_another_server(url, other):
    answer = httpx.post(f"{url}/v1/embeddings", json={"model": "llama", "input": "a", "inputs": "theirs"})
    assert answer.status_code == 200
    assert answer.headers["x-embergem-upstream"] == "llama"
    assert other.seen[-1][1] == {"model": "meta/llama", "input": "a", "inputs": "theirs"}
    assert len(httpx.post(f"{url}/v1/embeddings", json={"input": "a"}).json()["data"]) == 1


def test_errors_come_back_as_they_are(url):
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
def test_what_cannot_be_sent_on(url, path, body, status, words):
    answer = httpx.post(f"{url}/v1/{path}", json=body)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True), answer.text


@pytest.mark.parametrize("path", ["chat/completions", "embeddings"])
@pytest.mark.parametrize(
    "content",
    [b'{"model": "llama", "user": "\xff"}', b'{"model": "llama", "\xff": 5}', b'{"model": "llama", "user": 1e}'],
)
def test_what_is_no_json_is_the_callers_mistake(url, path, content):
    answer = httpx.post(f"{url}/v1/{path}", content=content)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_what_is_not_looked_at_passes_as_it_came(url, other):
    content = b'{"model": "llama", "messages": [], "big": 1e999, "long": 12345678901234567890123, "none": null}'
    headers = {"x-request-id": "größe".encode("latin-1"), "accept-language": "größe".encode("latin-1")}
    assert httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers).status_code == 200
    _, body, seen = other.seen[-1]
    assert body == {"model": "meta/llama", "messages": [], "big": float("inf"), "long": 12345678901234567890123}
    assert (seen["x-request-id"], seen["accept-language"]) == ("größe", "größe")
    httpx.post(f"{url}/v1/chat/completions", content=content, headers={"x-request-id": "x" * 200})
    assert len(other.seen[-1][2]["x-request-id"]) == 32  # the one that stands in our log


def test_an_answer_of_another_server_has_a_deadline(url, other):
    late = httpx.post(f"{url}/v1/completions", json={"model": "llama"}, headers={"x-request-timeout": "0.1"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    bad = httpx.post(f"{url}/v1/completions", json={"model": "llama"}, headers={"x-request-timeout": "soon"})
    assert bad.status_code == 400


def test_a_client_that_hangs_up_frees_the_other_server(url, other):
    async def ask():
        async with httpx.AsyncClient(timeout=60) as client:
            asked = asyncio.create_task(client.post(f"{url}/v1/completions", json={"model": "llama"}))
            while not other.waiting:
                await asyncio.sleep(0.001)
            other.left.clear()
            asked.cancel()
            await asyncio.wait([asked])

    asyncio.run(asyncio.wait_for(ask(), 30))
    assert other.left.wait(30)


def test_requests_that_wait_do_not_hold_up_others(url, other):
    """As many as come: who limits connections is the server they come in through."""

    async def ask():
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

    assert asyncio.run(asyncio.wait_for(ask(), 30)) == 200


def test_the_models_of_others_are_listed(url):
    described = httpx.get(f"{url}/v1/models/l").json()
    assert (described["status"], described["root"], described["owned_by"]) == ("upstream", "llama", "upstream")


def test_a_key_that_is_not_there_is_told_at_the_start(monkeypatch):
    monkeypatch.delenv("OTHER_KEY", raising=False)
    entry = UpstreamEntry(name="llama", upstream="http://localhost/v1", upstream_key_env="OTHER_KEY")
    with pytest.raises(UnsupportedOption, match="OTHER_KEY is not set"):
        Upstream(entry, QUIET.request_timeout)


def test_a_stream_runs_until_its_last_part(other):
    """A key with one request at once has no second one while the answer to the first is on its way."""
    limited = Key(name="one", sha256=hash_key("one"), concurrency=1)
    other.go_on.clear()
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
            other.go_on.set()
            assert b"[DONE]" in b"".join(parts)
        while httpx.get(f"{url}/v1/models", headers=headers).status_code == 429:
            pass  # its end is noted just after its last part is sent
