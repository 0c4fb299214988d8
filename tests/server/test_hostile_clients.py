"""Clients that are slow, send too much, break the protocol, or disconnect."""

import asyncio
import json
import logging
import re
import socket
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from random import Random
from unittest.mock import Mock

import pytest
from serving import running, running_server, serving
from starlette.responses import StreamingResponse

from embergem.config import Key, Settings
from embergem.registry import Registry
from embergem.server import body, connections
from embergem.server.api_keys import KeyStore, hash_key
from embergem.server.run import bind, make_server
from embergem.server.state import ServerState

QUIET = {"log_level": "critical", "access_log": "off"}
QUICK = Settings(**QUIET, receive_timeout=0.3, max_header_bytes=4096, max_body=1 << 16)
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
REQUEST = HEAD + b'Content-Length: 14\r\n\r\n{"input": "a"}'


@contextmanager
def listening(registry, **settings):
    """Serve with these settings; yields host and port."""
    with running(registry, Settings(**QUIET, **settings)) as url:
        yield place(url)


def place(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


@pytest.fixture
def address(registry):
    """Host and port of a server with short time limits."""
    with running(registry, QUICK) as url:
        yield place(url)


def read_to_end(connection):
    """Read a response until the server closes the connection; return (status, headers, body)."""
    connection.settimeout(10)
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, content = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), content


def read_error(connection):
    """Read an error until the server closes the connection; return (status, error code)."""
    status, _, content = read_to_end(connection)
    return status, json.loads(content)["error"]["code"]


def read_status(connection):
    """Read a response on a connection that stays open; return its status."""
    connection.settimeout(10)
    received = b""
    while not received.endswith(b"}"):  # the end of the body, which may arrive after the headers
        received += connection.recv(1 << 16)
    return int(received.split()[1])


def send_request(connection):
    """Send a complete request; return the status of the response."""
    connection.sendall(REQUEST)
    return read_status(connection)


def closed(connection):
    """Return whether the server closes the connection without a response."""
    connection.settimeout(10)
    return connection.recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"POST /v1", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"])
def test_an_incomplete_request_times_out(address, sent):
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        if sent:
            assert read_error(connection) == (408, "request_timeout")
        else:
            assert closed(connection)


def test_a_slow_client_does_not_extend_the_deadline(address):
    with socket.create_connection(address) as connection:
        connection.settimeout(0.02)
        for number in range(500):
            try:
                connection.sendall(b"X-Header: 1\r\n" if number else HEAD)
                connection.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                continue
        assert read_error(connection)[0] == 408


def flood(connection):
    """Send headers until the server closes the connection."""
    for _ in range(10_000):
        connection.sendall(b"x-padding: " + b"y" * 1000 + b"\r\n")


def test_headers_over_the_limit_are_refused(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            flood(connection)


def test_a_client_that_does_not_speak_http_gets_an_error(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert read_error(connection) == (400, "invalid_http")


def test_a_declared_body_over_the_limit_is_refused_unread(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"Content-Length: 1073741824\r\n\r\n" + b"x" * 1000)
        status, headers, content = read_to_end(connection)
    assert (status, json.loads(content)["error"]["code"]) == (413, "body_too_large")
    assert headers["connection"] == "close"  # otherwise the client would send a body that nobody reads


def test_a_chunked_body_over_the_limit_is_refused(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        connection.sendall(b"8001\r\n" + b"x" * 0x8001 + b"\r\n")
        assert read_error(connection) == (413, "body_too_large")


def test_a_connection_stays_open_between_requests(address):
    with socket.create_connection(address) as connection:
        for _ in range(2):
            assert send_request(connection) == 200
            connection.settimeout(0.4)  # longer than a request may take to arrive
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(10)


def test_pipelined_requests_are_answered(address):
    last = REQUEST.replace(b"Host: x", b"Host: x\r\nConnection: close")
    with socket.create_connection(address) as connection:
        connection.sendall(REQUEST + last)
        connection.settimeout(10)
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200") == 2


def test_an_unread_body_is_not_taken_for_headers(registry):
    """The server may refuse a request before its body arrives. It then skips the body."""
    refused = HEAD + b"X-Request-Timeout: soon\r\nContent-Length: 300000\r\n\r\n"
    with listening(registry, idle_timeout=0.3) as address, socket.create_connection(address) as connection:
        for _ in range(2):
            connection.sendall(refused)
            assert read_status(connection) == 400
            connection.sendall(b"x" * 300_000 + REQUEST)
            assert read_status(connection) == 200
        connection.sendall(refused)
        assert read_status(connection) == 400
        connection.sendall(b"x" * 300_000)
        assert closed(connection)  # after the idle timeout, like any other connection


def test_headers_after_an_unread_body_have_a_limit(address):
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"X-Request-Timeout: soon\r\nContent-Length: 9000\r\n\r\n")
        assert read_status(connection) == 400
        connection.sendall(b"x" * 9000 + HEAD)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            flood(connection)


def test_rejected_requests_have_a_request_id(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"no HTTP\r\n\r\n")
        status, headers, _ = read_to_end(connection)
        assert (status, len(headers["x-request-id"])) == (400, 32)
    with socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"X-Request-Id: mine\r\nContent-Length: 100\r\n\r\n{")
        status, headers, _ = read_to_end(connection)
        assert (status, headers["x-request-id"]) == (408, "mine")


def test_the_connection_that_is_idle_longest_is_closed_first(registry):
    with listening(registry, max_connections=2) as address:
        first, second = socket.create_connection(address), socket.create_connection(address)
        with first, second, socket.create_connection(address) as third:
            assert send_request(third) == 200
            assert closed(first)
            with socket.create_connection(address) as fourth:
                assert send_request(fourth) == 200
                assert closed(second)
                assert send_request(third) == 200


def test_each_new_connection_closes_another_idle_one():
    """Two connections may be made before the first of the closed ones is reported as lost."""
    limit = connections.ConnectionLimit(1)
    idle = [Mock(transport=Mock(get_write_buffer_size=Mock(return_value=unsent))) for unsent in (0, 9, 0)]
    opened = {*idle, Mock(), Mock()}
    for one in idle:
        limit.mark_idle(one)
    assert [limit.make_room(opened) for _ in range(3)] == [True, True, False]
    assert [one.transport.close.called for one in idle] == [True, False, True]


def test_a_body_that_comes_late_does_not_keep_its_connection_open(registry):
    with listening(registry, idle_timeout=1) as address, socket.create_connection(address) as connection:
        connection.sendall(b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        assert read_status(connection) == 404
        connection.sendall(b"67890")
        assert closed(connection)


def test_busy_connections_are_not_closed_for_new_ones(registry):
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n"
    with listening(registry, max_connections=2) as address:
        first, second = socket.create_connection(address), socket.create_connection(address)
        with first, second:
            for connection in (first, second):
                connection.sendall(expecting)
                connection.settimeout(10)
                assert b"100 Continue" in connection.recv(1000)
            with socket.create_connection(address) as third:
                status, headers, content = read_to_end(third)
            error = json.loads(content)["error"]
            assert (status, error["code"], error["type"]) == (503, "too_many_connections", "server_error")
            assert int(headers["retry-after"]) >= 1
            assert len(headers["x-request-id"]) == 32
            first.sendall(b'{"input": "a"}')
            assert read_status(first) == 200
            with socket.create_connection(address) as fourth:
                assert send_request(fourth) == 200


def test_slow_headers_do_not_keep_a_connection_from_being_closed(registry):
    with listening(registry, max_connections=3) as address:
        first, second = socket.create_connection(address), socket.create_connection(address)
        with first, second, socket.create_connection(address) as third:
            for connection in (first, second, first):
                connection.sendall(HEAD if connection is second else b"POST /v1/embeddings HTTP/1.1\r\nX-Slow: ")
            assert send_request(third) == 200  # so the server has read what the others sent
            with socket.create_connection(address) as fourth:
                assert send_request(fourth) == 200
                assert closed(first)
                assert send_request(third) == 200
                second.sendall(REQUEST.removeprefix(HEAD))  # a slow client that completes its request gets a response
                assert read_status(second) == 200


def early(request_line, *headers):
    """Return the start of a request, without the headers about its body."""
    return "\r\n".join((f"{request_line} HTTP/1.1", "Host: x", *headers, "")).encode()


def bearer(secret):
    return f"Authorization: Bearer {secret}"


JSON = "Content-Type: application/json"
EARLY = {
    "200 health": (200, early("GET /health")),
    "200 models": (200, early("GET /v1/models", bearer("user"))),
    "200 preflight": (200, early("OPTIONS /v1/embeddings", "Origin: http://a", "Access-Control-Request-Method: POST")),
    "400 timeout": (400, early("POST /v1/embeddings", bearer("user"), "X-Request-Timeout: soon")),
    "400 preflight": (400, early("OPTIONS /v1/embeddings", "Origin: http://b", "Access-Control-Request-Method: POST")),
    "401 no key": (401, early("POST /v1/embeddings")),
    "401 wrong key": (401, early("POST /v1/tokenize", bearer("wrong"))),
    "403 no admin": (403, early("POST /v1/models/load", bearer("user"), JSON)),
    "404 path": (404, early("POST /v2/embeddings")),
    "404 model": (404, early("GET /v1/models/none", bearer("user"))),
    "405 method": (405, early("PUT /v1/embeddings")),
    "415 media type": (415, early("POST /v1/models/load", bearer("root"), "Content-Type: text/plain")),
    "429 rate": (429, early("POST /v1/embeddings", bearer("busy"))),
    "503 bodies": (503, early("POST /v1/embeddings", bearer("user"))),
}
"""Requests that are answered before their body is complete, with the status."""


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("framing", [b"Content-Length: 80000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n13880\r\n"])
def test_an_answered_request_does_not_hold_its_place(registry, monkeypatch, name, framing):
    """Its body is half sent, and the one place of the server is free for the next connection."""
    monkeypatch.setattr(body, "LARGE_BODIES", 0)
    keys = [
        Key(name="user", sha256=hash_key("user")),
        Key(name="root", sha256=hash_key("root"), admin=True),
        Key(name="busy", sha256=hash_key("busy"), requests_per_minute=1),
    ]
    state = ServerState(registry, Settings(**QUIET, max_connections=1, cors=("http://a",)), KeyStore(keys))
    state.limiter.acquire(keys[2])
    status, head = EARLY[name]
    with serving(state) as url, socket.create_connection(place(url)) as first:
        first.sendall(head + framing + b"x" * 70_000)
        first.settimeout(10)
        received = b""
        while b"\r\n\r\n" not in received:
            received += first.recv(1 << 16)
        assert int(received.split()[1]) == status
        with socket.create_connection(place(url)) as second:
            second.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_status(second) == 200
            first.settimeout(10)
            while first.recv(1 << 16):
                pass  # the rest of the response, and the end of the connection


def pieces(random):
    """Return six requests as one stream of bytes, cut at random places, and the statuses of their responses."""
    soon = HEAD + b"X-Request-Timeout: soon\r\n"
    some = [
        (REQUEST, 200),
        (HEAD + b"Content-Length: 40000\r\n\r\n" + b'{"input": "a"}'.ljust(40_000), 200),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000, 404),
        (soon + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000, 400),
        (soon + b"Transfer-Encoding: chunked\r\n\r\n11170\r\n" + b"x" * 70_000 + b"\r\n0\r\n\r\n", 400),
    ]
    chosen = random.choices(some, k=6)
    stream = b"".join(request for request, _ in chosen)
    cuts = sorted(random.sample(range(1, len(stream)), random.choice([0, 3, 20])))
    return [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])], [status for _, status in chosen]


def test_requests_on_one_connection_are_answered_in_order(registry):
    with listening(registry, max_header_bytes=4096) as address:
        for seed in range(30):
            parts, expected = pieces(Random(seed))
            with socket.create_connection(address) as connection:
                connection.settimeout(10)
                for part in parts:
                    connection.sendall(part)
                received, found = b"", []
                while len(found) < len(expected) or not received.endswith(b"}"):
                    part = connection.recv(1 << 16)
                    assert part, (seed, expected, found)
                    received += part
                    found = [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", received)]
            assert found == expected, seed


class LogWaiter(logging.Handler):
    """Sets an event when a log message has the given words."""

    def __init__(self, words):
        super().__init__()
        self.words, self.event = words, threading.Event()

    def emit(self, record):
        if self.words in record.getMessage():
            self.event.set()


def test_a_client_that_does_not_read_its_response_is_disconnected(registry, monkeypatch):
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", 0.3)
    waiter = LogWaiter("has not read its response")
    monkeypatch.setattr(connections.log, "handlers", [waiter])
    content = json.dumps({"input": ["a"] * 2048}).encode()
    request = HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    with listening(registry) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(request * 8)
        assert waiter.event.wait(30)


def test_a_client_that_does_not_read_a_stream_is_disconnected(monkeypatch):
    """The response is not complete, so the deadline starts when the write buffer is full."""
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", 0.3)
    waiter = LogWaiter("has not read its response")
    monkeypatch.setattr(connections.log, "handlers", [waiter])

    async def parts():
        yield bytes(2**24)
        await asyncio.Event().wait()

    with Registry() as models:
        server = make_server(ServerState(models, Settings(**QUIET, drain_timeout=0.1)))
        server.config.app = StreamingResponse(parts())
        with bind("127.0.0.1", 0) as listener, running_server(server, listener), socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(listener.getsockname())
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert waiter.event.wait(30)


def test_all_bodies_together_have_a_memory_limit(registry, monkeypatch):
    """The first 64 KiB of each body do not count, so small requests pass beside large ones."""
    monkeypatch.setattr(body, "LARGE_BODIES", 1)
    state = ServerState(registry, Settings(**QUIET, max_body=1 << 17))
    whole = HEAD + b"Content-Length: 131072\r\n\r\n" + b" " * 131072

    def until(held):
        end = time.monotonic() + 20
        while state.bodies.bytes != held:
            assert time.monotonic() < end, state.bodies.bytes

    with serving(state) as url:
        slow = [socket.create_connection(place(url)) for _ in range(2)]
        for count, connection in enumerate(slow, 1):
            connection.sendall(whole[:-1])
            until(count * 65535)
        with socket.create_connection(place(url)) as connection:
            connection.sendall(whole)
            assert read_status(connection) == 503
            assert send_request(connection) == 200
        for connection in slow:
            connection.close()
        until(0)
        with socket.create_connection(place(url)) as connection:
            connection.sendall(whole)
            assert read_status(connection) == 400
