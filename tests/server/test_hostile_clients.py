"""Clients that are slow, large, broken or gone."""

import json
import logging
import re
import socket
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from random import Random

import pytest
from serving import running, serving
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from embergem.config import Settings
from embergem.server import body, connections, run
from embergem.server.state import ServerState

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


def asked(connection):
    """Status of the answer to a whole request."""
    connection.sendall(REQUEST)
    return one_answer(connection)


def hung_up(connection):
    """Whether the server ends the connection, without a word."""
    connection.settimeout(10)
    return connection.recv(1) == b""


@pytest.mark.parametrize("sent", [b"", b"POST /v1", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"])
def test_a_request_that_does_not_end(address, sent):
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        if sent:
            assert answer(connection) == (408, "request_timeout")
        else:
            assert hung_up(connection)


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
            assert asked(connection) == 200
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
        assert hung_up(connection)  # idle for too long, as any other


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
            assert asked(third) == 200
            assert hung_up(first)
            with socket.create_connection(address) as fourth:
                assert asked(fourth) == 200
                assert hung_up(second)
                assert asked(third) == 200


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
                assert asked(fourth) == 200


def test_who_sends_a_head_bit_by_bit_keeps_nobody_out(parser, registry):
    with listening(registry, max_connections=3) as address:
        first, second = socket.create_connection(address), socket.create_connection(address)
        with first, second, socket.create_connection(address) as third:
            for connection in (first, second, first):
                connection.sendall(HEAD if connection is second else b"POST /v1/embeddings HTTP/1.1\r\nX-Slow: ")
            assert asked(third) == 200  # so the server has read what was sent before
            with socket.create_connection(address) as fourth:
                assert asked(fourth) == 200
                assert hung_up(first)
                assert asked(third) == 200
                second.sendall(REQUEST.removeprefix(HEAD))  # whoever goes on has an answer
                assert one_answer(second) == 200


def pieces(random):
    """Six requests in one stream of bytes, cut anywhere, with the statuses of their answers."""
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


def test_requests_on_one_connection_are_answered_in_order_however_they_are_cut(parser, registry):
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


class Heard(logging.Handler):
    """Waits for a message of the log."""

    def __init__(self, words):
        super().__init__()
        self.words, self.event = words, threading.Event()

    def emit(self, record):
        if self.words in record.getMessage():
            self.event.set()


def test_who_does_not_read_the_answer_is_given_up(parser, registry, monkeypatch):
    monkeypatch.setattr(connections, "WRITE_TIMEOUT", 0.3)
    heard = Heard("has not read its response")
    monkeypatch.setattr(connections.log, "handlers", [heard])
    content = json.dumps({"input": ["a"] * 2048}).encode()
    request = HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    with listening(registry) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(request * 8)
        assert heard.event.wait(30)


def test_the_bodies_in_memory_have_a_limit_together(parser, registry, monkeypatch):
    """What is counted is beyond the first 64 KiB of each, so a small request passes beside the large ones."""
    monkeypatch.setattr(body, "LARGE_BODIES", 1)
    service = ServerState(registry, Settings(**QUIET, max_body=1 << 17))
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
            assert asked(connection) == 200
        for connection in slow:
            connection.close()
        until(0)
        with socket.create_connection(place(url)) as connection:
            connection.sendall(whole)
            assert one_answer(connection) == 400
