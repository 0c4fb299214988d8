"""`Client` and `AsyncClient`: the bits of a real server, and the errors for responses of a scripted server."""

import asyncio
import inspect
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest

from embergem import AsyncClient, AsyncEmbedder, Client, Embedder, TruncationWarning
from embergem.client import transport
from embergem.client.token_estimate import TokenEstimate
from embergem.errors import (
    EngineClosed,
    InputTooLong,
    InvalidDimensions,
    InvalidRequest,
    InvalidTask,
    InvalidText,
    Overloaded,
    ServerUnreachable,
    TokenOutOfRange,
    UnexpectedAnswer,
    UnknownModel,
    UnsupportedOption,
)
from embergem.sdk import chunks
from embergem.types import Request

TEXTS = [f"text {number}" for number in range(60)]
LONG = "graphene " * 300


@pytest.fixture(scope="module")
def client(url):
    with Client(url) as connected:
        yield connected


def test_a_server_gives_the_same_bits_by_the_same_methods(url, client, embedder):
    for remote in (client, Embedder(url), Client(f"{url}/v1/", model="gemma3_text")):
        assert np.array_equal(remote.embed(TEXTS), embedder.embed(TEXTS))
        assert np.array_equal(remote.embed_query("a"), embedder.embed_query("a"))
        assert np.array_equal(
            remote.embed_documents(["a", "b"], ["T", None]), embedder.embed_documents(["a", "b"], ["T", None])
        )
        assert np.array_equal(remote.embed([[5, 6], [7]]), embedder.embed([[5, 6], [7]]))
        assert np.array_equal(remote.embed([np.array([5, 6])]), embedder.embed([[5, 6]]))
        assert np.array_equal(
            np.stack(list(remote.embed_stream(TEXTS, output="int8"))), embedder.embed(TEXTS, output="int8")
        )
        assert remote.rank("a", TEXTS[:5]) == embedder.rank("a", TEXTS[:5])
        for name in ("dtype", "dimensions", "allowed_dimensions", "limit", "tasks"):
            assert getattr(remote, name) == getattr(embedder, name)
        assert remote.fingerprint in (None, embedder.fingerprint)
        if remote is not client:
            remote.close()
            with pytest.raises(EngineClosed):
                remote.embed("a")


def test_the_asynchronous_client_gives_the_same_bits(url, embedder):
    async def main():
        async with await AsyncClient.connect(url) as client:
            query, many, names = await asyncio.gather(client.embed_query("a"), client.embed(TEXTS), client.models())
            streamed = np.stack([vector async for vector in client.embed_stream(TEXTS)])
        assert np.array_equal(query, embedder.embed_query("a"))
        assert np.array_equal(many, embedder.embed(TEXTS))
        assert np.array_equal(streamed, many)
        assert "gemma3_text" in names
        with pytest.raises(EngineClosed):
            await client.embed("a")

    asyncio.run(main())


def test_the_server_counts_tokens(client, embedder):
    for arguments in (
        {"texts": ["", LONG]},
        {"texts": "a", "task": "document", "title": "T"},
        {"texts": [[5, 6, 7]]},
    ):
        assert client.count_tokens(**arguments) == embedder.count_tokens(**arguments)


def test_other_models_of_the_server(url, client):
    assert {"gemma3_text", "bert_mean"} <= set(client.models())
    with Client(url, model="bert_mean") as other:
        assert other.tasks == ()
        assert other.embed_query("a").shape == (1, other.dimensions)
    with pytest.raises(UnknownModel, match="'nonsense' is not served here"):
        Client(url, model="nonsense")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"texts": [[5, 5000]]}, TokenOutOfRange, "5000"),
        ({"texts": ["a", LONG]}, InputTooLong, "Input 1 has"),
        ({"texts": ["a", "\ud800"]}, InvalidText, "Input 1 has a lone surrogate at character 0 of its text"),
        ({"texts": ["a"], "task": "sing"}, InvalidTask, "clustering"),
        ({"texts": ["a"], "title": "T"}, InvalidTask, "document"),
        ({"texts": ["a"], "dimensions": 95}, InvalidDimensions, "of: 96."),
        ({"texts": [], "task": "sing"}, InvalidTask, "clustering"),
    ],
)
def test_errors_are_those_of_the_model_itself(client, embedder, arguments, error, words):
    for target in (client, embedder):
        with pytest.raises(error, match=words):
            target.embed(**arguments)


def test_truncated_inputs_are_named(client, embedder):
    with pytest.warns(TruncationWarning, match="1 of 3 inputs.*limit of 128 tokens: indices 1") as caught:
        vectors = client.embed(["a", LONG, "b"], truncate=True)
    assert caught[0].filename == __file__
    with pytest.warns(TruncationWarning):
        assert np.array_equal(vectors, embedder.embed(["a", LONG, "b"], truncate=True))


def test_large_calls_are_sent_in_chunks(client, embedder, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_INPUTS", 7)
    sent = []
    send = client._remote.submit
    monkeypatch.setattr(client._remote, "submit", lambda request: (sent.append(len(request)), send(request))[1])
    assert np.array_equal(client.embed(TEXTS), embedder.embed(TEXTS))
    assert sent == [7] * 8 + [4]


def test_requests_have_a_bounded_number_of_tokens(url, client, embedder, monkeypatch):
    monkeypatch.setattr("embergem.client.remote.PART_TOKENS", 3000)
    monkeypatch.setattr(client._remote, "_estimate", TokenEstimate(client.limit))
    sent = []
    post = client._remote._transport.post

    async def counted(path, content):
        answer = await post(path, content)
        read = json.loads(answer[0])["usage"]["prompt_tokens"]
        sent.append((len(json.loads(content)["input"]), read))
        return answer

    monkeypatch.setattr(client._remote._transport, "post", counted)
    texts = [f"graphene is a lattice of carbon, number {number}, " * (1 + number % 2) for number in range(200)]
    vectors = client.embed(texts)
    assert np.array_equal(vectors, embedder.embed(texts))
    assert sum(count for count, _ in sent) == 200
    assert all(tokens <= 3000 for _, tokens in sent)
    assert max(count for count, _ in sent) > sent[0][0], "the estimate follows the answers"

    with pytest.raises(InputTooLong, match="Input 150 has") as caught:
        client.embed([*texts[:150], LONG])
    assert caught.value.input_index == 150
    with pytest.warns(TruncationWarning, match="1 of 151 inputs.*indices 150"):
        cut = client.embed([*texts[:150], LONG], truncate=True)
    with pytest.warns(TruncationWarning):
        assert np.array_equal(cut, embedder.embed([*texts[:150], LONG], truncate=True))

    monkeypatch.setattr("embergem.client.remote.PART_TOKENS", 300)
    sent.clear()
    rows = [[5, 6, 7] * (1 + number % 30) for number in range(120)]
    assert np.array_equal(client.embed(rows), embedder.embed(rows))
    assert all(tokens <= 300 for _, tokens in sent)
    assert all(tokens > 300 - 90 for _, tokens in sent[:-1]), "ids are counted"


def test_requests_of_the_asynchronous_client_are_bounded_too(url, embedder, monkeypatch):
    monkeypatch.setattr("embergem.client.remote.PART_TOKENS", 50)

    async def main():
        async with await AsyncClient.connect(url) as client:
            titles = [f"title {number}" for number in range(60)]
            found = await client.embed_documents(TEXTS, titles)
            streamed = np.stack([vector async for vector in client.embed_stream(TEXTS)])
        assert np.array_equal(found, embedder.embed_documents(TEXTS, titles))
        assert np.array_equal(streamed, embedder.embed(TEXTS))

    asyncio.run(main())


def test_the_estimate_of_tokens_tends_to_be_high():
    estimate = TokenEstimate(limit=1000)

    def learn(characters, tokens):
        estimate.learn(Request(texts=["x" * characters]), tokens)
        return estimate.tokens_per_character

    assert learn(999, 5000) == 1  # too few characters
    assert [learn(4000, 1000) for _ in range(4)] == [0.625, 0.4375, 0.34375, 0.296875]
    assert learn(2000, 1800) == 0.9  # an answer raises the rate without delay
    assert list(estimate.sizes(Request(texts=["x" * 10], titles=["y" * 10]))) == [18]
    assert list(estimate.sizes(Request(texts=["x" * 10_000], truncate=True))) == [1000]
    assert list(estimate.sizes(Request(ids=[[1] * 2000, [2]]))) == [2000, 1]
    estimate.learn(Request(ids=[[1] * 2000]), 2000)
    assert estimate.tokens_per_character == 0.9


def test_options_of_a_model_in_this_process_are_refused(url):
    with pytest.raises(UnsupportedOption, match="threads=2 applies to models that are loaded into this process"):
        Embedder(url, threads=2)


def test_no_server_at_the_address():
    with pytest.raises(ServerUnreachable, match=r"127\.0\.0\.1:9"):
        Client("http://127.0.0.1:9", retries=0)
    with pytest.raises(UnsupportedOption, match="is not the address of a server"):
        Client("http://exa mple:x")


def test_the_arguments_of_both_clients_are_the_same():
    arguments = [list(inspect.signature(call).parameters) for call in (Client, AsyncClient, AsyncClient.connect)]
    assert arguments[0] == arguments[1] == arguments[2]
    assert issubclass(AsyncClient, AsyncEmbedder)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_closing_ends_requests_in_flight(kind):
    seen, release = threading.Event(), threading.Event()

    class Slow(Scripted):
        def do_POST(self):
            seen.set()
            release.wait(60)

    async def main():
        client = kind(url)
        if kind is AsyncClient:
            call = asyncio.create_task(client.embed("a"))
        else:
            call = asyncio.create_task(asyncio.to_thread(client.embed, "a"))
        await asyncio.to_thread(seen.wait, 60)
        await asyncio.to_thread(client._remote.close)
        with pytest.raises(EngineClosed, match="closed before the request was done"):
            await call

    with serving_stub(Slow) as url:
        try:
            asyncio.run(main())
        finally:
            release.set()


@contextmanager
def serving_stub(handler):
    """Run a server with this request handler; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


DESCRIPTION = {
    **{"id": "m", "created": 0, "root": "m", "status": "loaded", "dtype": "float32"},
    **{"dimensions": 2, "allowed_dimensions": [2], "max_tokens": 9, "tasks": []},
}


def embeddings(*items):
    """The answer of `POST /v1/embeddings` with (index, base64) items."""
    data = [{"index": index, "embedding": vector, "tokens": 3, "truncated": False} for index, vector in items]
    return {"data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}


GOOD = embeddings((0, "AACAPwAAAAA="))  # [1.0, 0.0]


class Scripted(BaseHTTPRequestHandler):
    """Answers each POST with the next of `script`: (status, headers, body)."""

    script: ClassVar = []
    seen: ClassVar = []
    cookies: ClassVar = []

    def do_GET(self):
        self.answer(200, {}, DESCRIPTION)

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append((content, self.headers.get("authorization")))
        self.cookies.append(self.headers.get("cookie"))
        status, headers, body = self.script.pop(0)
        if status == 413 and len(content["input"]) == 1:
            status, body = 200, GOOD
        self.answer(status, headers, body)

    def answer(self, status, headers, body):
        if status is None:
            self.connection.close()
            return
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def scripted(monkeypatch):
    """Return a function that makes a client of a server with scripted answers. Pauses are recorded, not slept."""
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(transport, "sleep", sleep)
    clients = []
    with serving_stub(Scripted) as url:

        def make(*script, **options):
            Scripted.script, Scripted.seen = list(script), []
            clients.append(Client(url, **options))
            return clients[-1], pauses

        yield make
        for client in clients:
            client.close()


def error(code, message="no"):
    return {"error": {"message": message, "type": "t", "param": None, "code": code}}


def test_temporary_failures_are_retried_at_the_time_in_retry_after(scripted):
    busy = error("overloaded")
    script = [(429, {"retry-after": "3"}, busy), (503, {}, busy), (None, {}, b""), (200, {}, GOOD)]
    client, pauses = scripted(*script, api_key="secret")
    assert client.embed("a").tolist() == [[1, 0]]
    assert pauses[0] == 3
    assert 0.5 <= pauses[1] <= 1
    assert 1 <= pauses[2] <= 2
    assert [key for _, key in Scripted.seen] == ["Bearer secret"] * 4


def test_cookies_of_the_server_are_not_kept(scripted):
    client, _ = scripted((200, {"set-cookie": "session=a; Path=/"}, GOOD), (200, {}, GOOD))
    Scripted.cookies.clear()
    client.embed(["a"])
    client.embed(["b"])
    assert Scripted.cookies == [None, None]


def test_retries_end(scripted):
    busy = (503, {}, error("engine_closed", "stopping"))
    client, pauses = scripted(*[busy] * 3, retries=2)
    with pytest.raises(EngineClosed, match="stopping"):
        client.embed("a")
    assert len(pauses) == 2


def test_a_retry_after_above_a_minute_is_an_error(scripted):
    client, pauses = scripted((429, {"retry-after": "3600"}, error("overloaded", "later")))
    with pytest.raises(Overloaded, match="later") as caught:
        client.embed("a")
    assert caught.value.retry_after == 3600
    assert pauses == []


def test_an_invalid_request_is_not_sent_again(scripted):
    client, pauses = scripted((400, {}, error("new_code_of_a_newer_server", "bad input")))
    with pytest.raises(InvalidRequest, match="bad input"):
        client.embed("a")
    assert pauses == []


def test_an_unknown_error_of_the_server_is_no_fault_of_the_request(scripted):
    client, _ = scripted((500, {}, error("new_code_of_a_newer_server", "out of paper")))
    with pytest.raises(UnexpectedAnswer, match="out of paper"):
        client.embed("a")


def test_an_index_outside_the_request_is_dropped(scripted):
    script = [(400, {}, error("invalid_text", "bad input")) for _ in range(3)]
    for (_, _, body), index in zip(script, (0, 5, -1), strict=True):
        body["error"]["input_index"] = index
    client, _ = scripted(*script)
    for expected, kind in ((0, InvalidText), (None, InvalidText), (None, UnexpectedAnswer)):
        with pytest.raises(kind, match="bad input") as caught:
            client.embed("a")
        assert caught.value.input_index == expected


def test_a_body_that_is_too_large_is_halved(scripted):
    client, _ = scripted(*[(413, {}, error("body_too_large"))] * 5)
    assert client.embed(["a", "b", "c"]).tolist() == [[1, 0]] * 3
    assert [body["input"] for body, _ in Scripted.seen] == [["a", "b", "c"], ["a"], ["b", "c"], ["b"], ["c"]]


SPACE, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize("told", [SPACE, None])
def test_another_vector_space_is_an_error(scripted, monkeypatch, told):
    monkeypatch.setitem(DESCRIPTION, "fingerprint", told)
    answers = [(200, {"x-embergem-space": space}, GOOD) for space in (SPACE, OTHER)]
    client, _ = scripted(answers[0], (200, {}, GOOD), *answers)
    assert client.fingerprint == told
    client.embed("a")
    assert client.fingerprint == SPACE
    client.embed(["b"])  # an answer without a space
    client.embed("c")
    with pytest.raises(UnexpectedAnswer, match=f"space {OTHER}, and those of this client were of {SPACE}"):
        client.embed("d")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "is not embeddings"),
        ({"data": []}, "is not embeddings as base64"),
        (embeddings(), "0 vectors for 1 inputs"),
        (embeddings((1, "AACAPwAAAAA=")), "another order"),
        (embeddings((0, "AACAPw==")), "4 bytes; 2 float32 are 8"),
        (embeddings((0, "???")), "not base64"),
        (embeddings((0, [1.0, 0.0])), "a list, not base64"),
        (embeddings((0, "AADAfwAAAAA=")), "not finite"),
    ],
)
def test_invalid_answers_are_errors(scripted, body, words):
    client, _ = scripted((200, {}, body))
    with pytest.raises(UnexpectedAnswer, match=words):
        client.embed("a")


def test_an_upstream_model_of_the_server_cannot_be_used(scripted, monkeypatch):
    monkeypatch.setitem(DESCRIPTION, "status", "upstream")
    monkeypatch.setitem(DESCRIPTION, "dimensions", None)
    with pytest.raises(UnexpectedAnswer, match="does not describe the model 'm': its status is 'upstream'"):
        scripted()


def test_an_error_page_of_a_proxy(scripted):
    client, _ = scripted((500, {}, b"<html>oops"))
    with pytest.raises(UnexpectedAnswer, match="answered 500 with a body that is not embergem's: '<html>oops'"):
        client.embed("a")


def test_retry_after_as_a_date():
    assert transport.retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert transport.retry_after({"retry-after": "-4"}) == 0
    assert transport.retry_after({"retry-after": "inf"}) is None


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("localhost:1", r"Did you mean 'http://localhost:1'\?"),
        ("htp://localhost", "Give one such as http://localhost:1234"),
        ("http://", "Give one such as http://localhost:1234"),
    ],
)
def test_an_address_without_a_scheme_is_refused_at_once(address, advice):
    with pytest.raises(UnsupportedOption, match=rf"^'{address}' is not an http:// or https:// address\. {advice}"):
        Client(address)
