"""Clients that are slow, large, broken or gone."""

import asyncio
import json
import logging
import socket
import threading
import time
import tracemalloc
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import running, serving
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from embergem.config import Settings
from embergem.errors import InvalidRequest
from embergem.server import body, careful, run
from embergem.server.parse import MOST_FIELDS, parse, texts_or_ids
from embergem.server.schema import EmbeddingsRequest
from embergem.server.service import Service

QUIET = {"log_level": "critical", "access_log": "off"}
QUICK = Settings(**QUIET, receive_timeout=0.3, max_header_bytes=4096, max_body=1 << 16)
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
REQUEST = HEAD + b'Content-Length: 14\r\n\r\n{"input": "a"}'


@pytest.fixture(params=[H11Protocol, HttpToolsProtocol])
def parser(request, monkeypatch):
    """Either of uvicorn's parsers, for the servers of a test."""
    monkeypatch.setattr(run, "_protocol", lambda: request.param)


@contextmanager
def listening(registry, **settings):
    """Host and port of a server."""
    with running(registry, Settings(**QUIET, **settings)) as url:
        yield place(url)


def place(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


@pytest.fixture
def address(parser, registry):
    """Host and port of an impatient server."""
    with running(registry, QUICK) as url:
        yield place(url)


def everything(connection):
    """All that comes until the server hangs up: (status, headers, body)."""
    connection.settimeout(10)
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, content = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), content


def answer(connection):
    """All that comes until the server hangs up: (status, error code)."""
    status, _, content = everything(connection)
    return status, json.loads(content)["error"]["code"]


def one_answer(connection):
    """Status of the next answer on a connection that stays open."""
    connection.settimeout(10)
    received = b""
    while not received.endswith(b"}"):  # the end of the body: head and body may come apart
        received += connection.recv(1 << 16)
    return int(received.split()[1])


@pytest.mark.parametrize("sent", [b"", b"POST /v1", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"])
def test_a_request_that_does_not_end(address, sent):
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        if sent:
            assert answer(connection) == (408, "request_timeout")
        else:
            connection.settimeout(10)
            assert connection.recv(1) == b""


def test_a_byte_at_a_time_does_not_put_the_deadline_off(address):
    with socket.create_connection(address) as connection:
        connection.settimeout(0.02)
        for number in range(500):
            try:
                connection.sendall(b"X-Header: 1\r\n" if number else HEAD)
                connection.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                continue
        assert answer(connection)[0] == 408


def flood(connection):
    """Send headers until the server has had enough."""
    for _ in range(10_000):
        connection.sendall(b"x-padding: " + b"y" * 1000 + b"\r\n")


def test_headers_without_end(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            flood(connection)


def test_what_is_no_http(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert answer(connection) == (400, "invalid_http")


def test_a_body_of_a_gigabyte_is_refused_unread(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"Content-Length: 1073741824\r\n\r\n" + b"x" * 1000)
        assert answer(connection) == (413, "body_too_large")


def test_a_body_of_unknown_length_is_refused_when_it_is_too_large(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        connection.sendall(b"8001\r\n" + b"x" * 0x8001 + b"\r\n")
        assert answer(connection) == (413, "body_too_large")


def test_a_connection_lives_on_between_requests(address):
    with socket.create_connection(address) as connection:
        for _ in range(2):
            connection.sendall(REQUEST)
            assert one_answer(connection) == 200
            connection.settimeout(0.4)  # longer than a request may take to arrive
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(10)


def test_two_requests_at_once_on_one_connection(address):
    last = REQUEST.replace(b"Host: x", b"Host: x\r\nConnection: close")
    with socket.create_connection(address) as connection:
        connection.sendall(REQUEST + last)
        connection.settimeout(10)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200") == 2


def test_a_body_that_was_not_read_is_no_head(parser, registry):
    """A refusal that needs no body comes before it, and what then comes of it is passed over."""
    refused = HEAD + b"X-Request-Timeout: soon\r\nContent-Length: 300000\r\n\r\n"
    with listening(registry, idle_timeout=0.3) as address, socket.create_connection(address) as connection:
        for _ in range(2):
            connection.sendall(refused)
            assert one_answer(connection) == 400
            connection.sendall(b"x" * 300_000 + REQUEST)
            assert one_answer(connection) == 200
        connection.sendall(refused)
        assert one_answer(connection) == 400
        connection.sendall(b"x" * 300_000)
        assert connection.recv(1) == b""  # idle for too long, as any other


def test_a_head_after_a_body_that_was_not_read_has_its_limit(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"X-Request-Timeout: soon\r\nContent-Length: 9000\r\n\r\n")
        assert one_answer(connection) == 400
        connection.sendall(b"x" * 9000 + HEAD)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            flood(connection)


def test_what_is_refused_before_it_is_a_request_has_an_id(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        status, headers, _ = everything(connection)
        assert (status, len(headers["x-request-id"])) == (400, 32)
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"X-Request-Id: mine\r\nContent-Length: 100\r\n\r\n{")
        status, headers, _ = everything(connection)
        assert (status, headers["x-request-id"]) == (408, "mine")


def test_idle_connections_make_room_the_longest_first(parser, registry):
    with listening(registry, max_connections=2) as address:
        first, second = socket.create_connection(address), socket.create_connection(address)
        with first, second, socket.create_connection(address) as third:
            third.sendall(REQUEST)
            assert one_answer(third) == 200
            first.settimeout(10)
            assert first.recv(1) == b""
            with socket.create_connection(address) as fourth:
                fourth.sendall(REQUEST)
                assert one_answer(fourth) == 200
                second.settimeout(10)
                assert second.recv(1) == b""
                third.sendall(REQUEST)
                assert one_answer(third) == 200


def test_connections_at_work_are_the_limit(parser, registry):
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n"
    with listening(registry, max_connections=2) as address:
        first, second = socket.create_connection(address), socket.create_connection(address)
        with first, second:
            for connection in (first, second):
                connection.sendall(expecting)
                connection.settimeout(10)
                assert b"100 Continue" in connection.recv(1000)
            with socket.create_connection(address) as third:
                status, headers, content = everything(third)
            error = json.loads(content)["error"]
            assert (status, error["code"], error["type"]) == (503, "too_many_connections", "server_error")
            assert int(headers["retry-after"]) >= 1
            assert len(headers["x-request-id"]) == 32
            first.sendall(b'{"input": "a"}')
            assert one_answer(first) == 200
            with socket.create_connection(address) as fourth:
                fourth.sendall(REQUEST)
                assert one_answer(fourth) == 200


class Heard(logging.Handler):
    """Waits for a message of the log."""

    def __init__(self, words):
        super().__init__()
        self.words, self.event = words, threading.Event()

    def emit(self, record):
        if self.words in record.getMessage():
            self.event.set()


def test_who_does_not_read_the_answer_is_given_up(parser, registry, monkeypatch):
    monkeypatch.setattr(careful, "STALLED", 0.3)
    heard = Heard("has read nothing")
    monkeypatch.setattr(careful.log, "handlers", [heard])
    content = json.dumps({"input": ["a"] * 2048}).encode()
    request = HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    with listening(registry) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(request * 8)
        assert heard.event.wait(30)


def test_the_bodies_in_memory_have_a_limit_together(parser, registry, monkeypatch):
    """What is counted is beyond the first 64 KiB of each, so a small request passes beside the large ones."""
    monkeypatch.setattr(body, "AT_ONCE", 1)
    service = Service(registry, Settings(**QUIET, max_body=1 << 17))
    whole = HEAD + b"Content-Length: 131072\r\n\r\n" + b" " * 131072

    def until(held):
        end = time.monotonic() + 20
        while service.bodies.bytes != held:
            assert time.monotonic() < end, service.bodies.bytes

    with serving(service) as url:
        slow = [socket.create_connection(place(url)) for _ in range(2)]
        for count, connection in enumerate(slow, 1):
            connection.sendall(whole[:-1])
            until(count * 65535)
        with socket.create_connection(place(url)) as connection:
            connection.sendall(whole)
            assert one_answer(connection) == 503
            connection.sendall(REQUEST)
            assert one_answer(connection) == 200
        for connection in slow:
            connection.close()
        until(0)
        with socket.create_connection(place(url)) as connection:
            connection.sendall(whole)
            assert one_answer(connection) == 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{" + b",".join(b'"f%d":0' % number for number in range(MOST_FIELDS + 1)) + b"}", "more than 100 fields"),
        (b'{"input": "a"' + b',"f":0' * 1_000_000 + b"}", "more than 100 fields"),
        (b'{"input": [' + b"[]," * 1_000_000 + b"[]]}", "more than 8 entries"),
        (b'{"input": [' + b'"ab",' * 1_000_000 + b'"a"]}', "more than 8 entries"),
        (b'{"input": [' + b'"a",' * 8 + b"[]," * 1_000_000 + b'"a"]}', r"input\[8\]: Expected `str`, got `array`"),
        (b'{"input": ["a",' + b"[]," * 1_000_000 + b'"a"]}', r"input\[1\]: Expected `str`, got `array`"),
        (b'{"input": [' + b"500," * 5_000_000 + b"5]}", "more than 4194304 token ids"),
    ],
    ids=["fields", "large fields", "rows", "texts", "lists among texts", "lists as texts", "ids"],
)
def test_nothing_is_built_before_it_is_known_how_much(content, words):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=words):
            texts_or_ids(parse(content, EmbeddingsRequest)[0].input, 8)
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
def test_any_body_is_read_or_refused(body):
    try:
        request, _ = parse(body, EmbeddingsRequest)
        texts, ids = texts_or_ids(request.input, 9)
    except InvalidRequest:
        return
    assert (texts is None) != (ids is None)
    assert all(isinstance(text, str) for text in texts or [])
    assert all(type(number) is int for row in ids or [] for number in row)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(FIELDS, JSON, max_size=4))
def test_any_body_is_answered_and_never_with_a_fault_of_ours(http, body):
    content = json.dumps({"input": "a", **body}).encode()
    found = http.post("/v1/embeddings", content=content)
    assert found.status_code in (200, 400, 404), (body, found.text)


def test_nothing_is_computed_for_who_has_gone(registry):
    """A client that hangs up while it waits: its work is cancelled."""
    from concurrent.futures import Future

    from embergem.errors import Cancelled
    from embergem.server.waiting import result_of

    class Gone:
        async def receive(self):
            return {"type": "http.disconnect"}

    work = Future()
    with pytest.raises(Cancelled):
        asyncio.run(result_of(Gone(), work, time.monotonic() + 60))
    assert work.cancelled()


@pytest.mark.parametrize("titles", [None, ["T", None], ["T" * 4096, None]])
def test_what_takes_long_to_tokenize_is_tokenized_beside_the_event_loop(titles):
    from embergem.engine import Request
    from embergem.server.waiting import submit

    class Engine:
        def submit(self, request):
            return threading.current_thread()

    request = Request(texts=["a", "b"], titles=titles)
    beside = asyncio.run(submit(Engine(), request)) is not threading.current_thread()
    assert beside == (titles is not None and titles[0] != "T")
