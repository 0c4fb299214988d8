"""Decoding bodies within limits, and computing without blocking the event loop."""

import asyncio
import json
import threading
import time
import tracemalloc
from collections import Counter
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from embergem.engine import Request
from embergem.errors import Cancelled, DeadlineExceeded, InvalidRequest
from embergem.protocol import EmbeddingsRequest
from embergem.server import wait
from embergem.server.body import LARGE, BodyReader
from embergem.server.bounded_json import MAX_FIELDS
from embergem.server.decode import decode_body, decode_input
from embergem.server.text_queue import TextQueue


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{" + b",".join(b'"f%d":0' % number for number in range(MAX_FIELDS + 1)) + b"}", "more than 100 fields"),
        (b'{"input": "a"' + b',"f":0' * 1_000_000 + b"}", "more than 100 fields"),
        (b'{"input": [' + b"[]," * 1_000_000 + b"[]]}", "more than 8 entries"),
        (b'{"input": [' + b'"ab",' * 1_000_000 + b'"a"]}', "more than 8 entries"),
        (
            b'{"input": [' + b'"a",' * 8 + b"[]," * 1_000_000 + b'"a"]}',
            r"^Input 8 is invalid at input\[8\]: Expected `str`, got `array`",
        ),
        (
            b'{"input": ["a",' + b"[]," * 1_000_000 + b'"a"]}',
            r"^Input 1 is invalid at input\[1\]: Expected `str`, got `array`",
        ),
        (b'{"input": [' + b"500," * 5_000_000 + b"5]}", "more than 4194304 token ids"),
    ],
    ids=["fields", "large fields", "rows", "texts", "lists among texts", "lists as texts", "ids"],
)
def test_limits_are_checked_before_entries_are_built(content, words):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=words):
            decode_input(decode_body(content, EmbeddingsRequest)[0].input, 8)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content) + 100_000
    finally:
        tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*EmbeddingsRequest.__struct_fields__, "dimension", "inputs", "größe"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=60) | st.dictionaries(FIELDS, JSON, max_size=6).map(lambda body: json.dumps(body).encode()))
def test_any_body_is_decoded_or_refused(body):
    try:
        request, _ = decode_body(body, EmbeddingsRequest)
        texts, ids = decode_input(request.input, 9)
    except InvalidRequest:
        return
    assert (texts is None) != (ids is None)
    assert all(isinstance(text, str) for text in texts or [])
    assert all(type(number) is int for row in ids or [] for number in row)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_no_body_gives_an_internal_error(http, body):
    content = json.dumps({"input": "a", **body}).encode()
    found = http.post("/v1/embeddings", content=content)
    assert found.status_code in (200, 400, 404), (body, found.text)


class StubEngine:
    """Returns what `submit` returns, in place of an engine."""

    def __init__(self, submit):
        self._submit = submit

    def submit(self, request, cancel=None):
        return self._submit(request)


def compute(http, engine, request):
    context = SimpleNamespace(http=http, state=SimpleNamespace(texts=TextQueue(1 << 20)), trace=None, of_batch=False)
    return wait.compute(context, engine, request, request.size)


class Connected:
    async def receive(self):
        await asyncio.Event().wait()


def test_work_is_cancelled_when_the_client_disconnects():
    class Disconnected:
        async def receive(self):
            return {"type": "http.disconnect"}

    work = Future()
    request = Request(texts=["a"], deadline=time.monotonic() + 60)
    with pytest.raises(Cancelled):
        asyncio.run(compute(Disconnected(), StubEngine(lambda _: work), request))
    assert work.cancelled()


def test_work_is_cancelled_at_the_deadline():
    for seconds in (0.001, 0.02):  # before and after the connection is watched
        work = Future()
        request = Request(texts=["a"], deadline=time.monotonic() + seconds)
        with pytest.raises(DeadlineExceeded):
            asyncio.run(compute(Connected(), StubEngine(lambda _, work=work: work), request))
        assert work.cancelled()


@pytest.mark.parametrize(
    ("texts", "titles", "other_thread"),
    [
        (["a", "b"], None, False),
        (["a", "b"], ["T", None], False),
        (["a", "b"], ["T" * 4096, None], True),
        (["a" * 4096], None, True),
        (["a"] * 17, None, True),
    ],
)
def test_long_texts_are_tokenized_on_another_thread(texts, titles, other_thread):
    def submit(request):
        work = Future()
        work.set_result(threading.current_thread())
        return work

    thread = asyncio.run(compute(Connected(), StubEngine(submit), Request(texts=texts, titles=titles)))
    assert (thread is not threading.current_thread()) == other_thread


def decode(content, work, seconds=60.0):
    context = SimpleNamespace(http=Connected(), state=SimpleNamespace(texts=TextQueue(1 << 20)))
    return asyncio.run(wait.decode(context, content, work, time.monotonic() + seconds))


def test_large_bodies_are_decoded_on_another_thread():
    assert decode(b"x" * wait.SHORT_BODY, threading.current_thread) is threading.current_thread()
    assert decode(b"x" * (wait.SHORT_BODY + 1), threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        decode(b"x" * (wait.SHORT_BODY + 1), lambda: 1 // 0)


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon", ""])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(given):
    with pytest.raises(InvalidRequest, match="not a number of seconds above 0"):
        wait.request_deadline(SimpleNamespace(headers={"x-request-timeout": given}), 60)


@pytest.mark.parametrize(("headers", "seconds"), [({}, 60), ({"x-request-timeout": "0.5"}, 0.5)])
def test_a_deadline_is_the_timeout_from_now(headers, seconds, monkeypatch):
    monkeypatch.setattr(wait.time, "monotonic", lambda: 100.0)
    assert wait.request_deadline(SimpleNamespace(headers=headers), 60) == 100 + seconds


def test_the_deadline_holds_while_a_body_is_decoded():
    end = threading.Event()
    try:
        with pytest.raises(DeadlineExceeded):
            decode(b"x" * (wait.SHORT_BODY + 1), lambda: end.wait(60), 0.01)
    finally:
        end.set()


def test_large_bodies_take_turns_with_the_rest_of_the_server():
    part, parts = b"x" * LARGE, 20
    cycles, received = [0], []

    class Upload(HttpBody):
        left = parts

        async def receive(self):
            received.append(cycles[0])
            self.left -= 1
            return {"type": "http.request", "body": part, "more_body": self.left > 0}

    async def count_cycles(readers):
        while not readers.done():
            cycles[0] += 1
            await asyncio.sleep(0)

    async def run():
        reader, state = BodyReader(), SimpleNamespace(settings=SimpleNamespace(max_body=parts * LARGE))
        contexts = [SimpleNamespace(http=Upload(b""), state=state, body_bytes=0) for _ in range(5)]
        readers = asyncio.gather(*(reader.read(context) for context in contexts))
        await count_cycles(readers)
        assert [len(body) for body in await readers] == [parts * LARGE] * 5

    asyncio.run(run())
    assert len(set(received[:5])) == 1  # the first part of each body is read at once
    assert max(Counter(received[5:]).values()) == 1


def test_free_memory_is_returned_after_the_last_large_body(monkeypatch):
    calls = []
    monkeypatch.setattr("embergem.server.body.return_free_memory", lambda: calls.append(reader.bytes))
    monkeypatch.setattr("embergem.server.body.TRIM_AFTER", 0)
    reader = BodyReader()

    async def read(size):
        state = SimpleNamespace(settings=SimpleNamespace(max_body=1 << 24))
        context = SimpleNamespace(http=HttpBody(b"x" * size), state=state, body_bytes=0)
        assert len(await reader.read(context)) == size
        return context

    async def read_and_release(*sizes):
        for context in [await read(size) for size in sizes]:
            reader.release(context)
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(read_and_release(LARGE // 2))
    assert calls == []
    asyncio.run(read_and_release(4 * LARGE, 2 * LARGE))
    assert calls == [0]
    asyncio.run(read_and_release(4 * LARGE, LARGE // 2))  # the last body is small, and the one before was not
    assert calls == [0, 0]
    asyncio.run(read_and_release(LARGE // 2))
    assert calls == [0, 0]


class HttpBody:
    """A request with a body and no headers."""

    headers = Headers()

    def __init__(self, content):
        self._content = content

    async def receive(self):
        return {"type": "http.request", "body": self._content}
