"""How requests are told apart on one connection: hostile framing, `Upgrade`, and limits, whatever the segments are."""

import asyncio
import json
import re
import shutil
import subprocess
from itertools import pairwise
from random import Random

import pytest
import uvicorn
from uvicorn.server import ServerState

from embergem.server.connections import ConnectionLimit, limited_protocol

LIMIT = 4096
HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
TWO = b"Content-Length: 2\r\n\r\nab"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

ACCEPTED = {
    "body": (HEAD + TWO, b"ab"),
    "no body": (b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "GET with a body": (b"GET /a HTTP/1.1\r\nHost: x\r\n" + TWO, b"ab"),
    "chunks": (HEAD + CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
    "chunk size with zeros": (HEAD + CHUNKED + b"0002\r\nab\r\n000\r\n\r\n", b"ab"),
    "chunk extension": (HEAD + CHUNKED + b'2;a=b;c="d"\r\nab\r\n0\r\n\r\n', b"ab"),
    "CHUNKED": (HEAD + CHUNKED.upper() + b"2\r\nab\r\n0\r\n\r\n", b"ab"),
    "trailer": (HEAD + CHUNKED + b"2\r\nab\r\n0\r\nAuthorization: Bearer key\r\n\r\n", b"ab"),
    "empty line first": (b"\r\n" + HEAD + TWO, b"ab"),
    "absolute target": (HEAD.replace(b"/a", b"http://x/a") + TWO, b"ab"),
    "obs-text in a value": (HEAD + b"X-A: \xe9\r\n" + TWO, b"ab"),
    "empty Host": (b"POST /a HTTP/1.1\r\nHost:\r\n" + TWO, b"ab"),
    "h2c": (HEAD + H2C + TWO, b"ab"),
    "h2c with chunks": (HEAD + H2C + CHUNKED + b"2\r\nab\r\n0\r\nUpgrade: h2c\r\n\r\n", b"ab"),
    "h2c without a body": (b"GET /a HTTP/1.1\r\nHost: x\r\n" + H2C + b"\r\n", b""),
    "h2c with an empty body": (HEAD + H2C + b"Content-Length: 0\r\n\r\n", b""),
    "Upgrade without Connection": (HEAD + b"Upgrade: h2c\r\n" + TWO, b"ab"),
    "websocket": (b"GET /a HTTP/1.1\r\nHost: x\r\n" + WEBSOCKET + b"\r\n", b""),
    "Upgrade: TLS/1.0": (HEAD + b"Connection: upgrade\r\nUpgrade: TLS/1.0, h2c\r\n" + TWO, b"ab"),
    "body that looks like a request": (HEAD + H2C + b"Content-Length: %d\r\n\r\n" % len(LAST) + LAST, LAST),
    "headers just below the limit": (HEAD + b"X-A: " + b"a" * (LIMIT - 100) + b"\r\n" + TWO, b"ab"),
}
"""Requests that are answered, with their bodies. The connection stays open."""

REFUSED = {
    "CL and TE": (HEAD + b"Content-Length: 4\r\n" + CHUNKED + b"0\r\n\r\n", 400),
    "TE and CL": (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n0\r\n\r\n", 400),
    "CL and TE and Upgrade": (HEAD + H2C + b"Content-Length: 2\r\n" + CHUNKED + b"2\r\nab\r\n0\r\n\r\n", 400),
    "CL twice": (HEAD + b"Content-Length: 2\r\n" + TWO, 400),
    "two CL": (HEAD + b"Content-Length: 3\r\n" + TWO, 400),
    "list of CL": (HEAD + b"Content-Length: 2, 2\r\n\r\nab", 400),
    "CL +2": (HEAD + b"Content-Length: +2\r\n\r\nab", 400),
    "CL -2": (HEAD + b"Content-Length: -2\r\n\r\nab", 400),
    "CL 0x2": (HEAD + b"Content-Length: 0x2\r\n\r\nab", 400),
    "CL 1_0": (HEAD + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
    "CL empty": (HEAD + b"Content-Length: \r\n\r\n", 400),
    "CL of 23 digits": (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nab", 400),
    "CL 2 2": (HEAD + b"Content-Length: 2 2\r\n\r\nab", 400),
    "folded CL": (HEAD + b"Content-Length:\r\n 2\r\n\r\nab", 400),
    "TE gzip": (HEAD + b"Transfer-Encoding: gzip\r\n\r\nab", 400),
    "TE gzip, chunked": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "TE chunked, gzip": (HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "TE twice": (HEAD + b"Transfer-Encoding: chunked\r\n" + CHUNKED + b"0\r\n\r\n", 400),
    "TE identity": (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "TE xchunked": (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "TE with a tab": (HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "space before the colon": (HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "TE of HTTP/1.0": (HEAD.replace(b"1.1", b"1.0") + CHUNKED + b"0\r\n\r\n", 400),
    "folded TE": (HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    "TE and h2c": (HEAD + H2C + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "folded header": (HEAD + b"X-A: 1\r\n 2\r\n" + TWO, 400),
    "folded first header": (b"POST /a HTTP/1.1\r\n X: y\r\nHost: x\r\n" + TWO, 400),
    "LF only": (HEAD.replace(b"\r", b"") + b"Content-Length: 2\n\nab", 400),
    "one LF": (HEAD + b"X-A: 1\nX-B: 2\r\n" + TWO, 400),
    "CR in a value": (HEAD + b"X-A: 1\r2\r\n" + TWO, 400),
    "two CR": (HEAD + b"X-A: 1\r\r\n" + TWO, 400),
    "NUL in a value": (HEAD + b"X-A: 1\x002\r\n" + TWO, 400),
    "control character in a value": (HEAD + b"X-A: 1\x012\r\n" + TWO, 400),
    "NUL in a name": (HEAD + b"X-\x00A: 1\r\n" + TWO, 400),
    "empty name": (HEAD + b": 1\r\n" + TWO, 400),
    "no colon": (HEAD + b"XA\r\n" + TWO, 400),
    "space in a name": (HEAD + b"X A: 1\r\n" + TWO, 400),
    "obs-text in a name": (HEAD + b"X\xe9: 1\r\n" + TWO, 400),
    "no Host": (b"POST /a HTTP/1.1\r\n" + TWO, 400),
    "two Host": (HEAD + b"Host: y\r\n" + TWO, 400),
    "two Host of HTTP/1.0": (HEAD.replace(b"1.1", b"1.0") + b"Host: y\r\n" + TWO, 400),
    "HTTP/0.9": (b"GET /a\r\n\r\n", 505),
    "HTTP/1.2": (HEAD.replace(b"1.1", b"1.2") + TWO, 400),
    "HTTP/2.0": (HEAD.replace(b"1.1", b"2.0") + TWO, 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "http/1.1": (HEAD.replace(b"HTTP", b"http") + TWO, 400),
    "HTTP/1.10": (HEAD.replace(b"1.1", b"1.10") + TWO, 400),
    "tabs in the request line": (HEAD.replace(b" /a ", b"\t/a\t") + TWO, 400),
    "space at the end of the request line": (HEAD.replace(b"1.1\r", b"1.1 \r") + TWO, 400),
    "unknown method": (HEAD.replace(b"POST", b"FROB") + TWO, 400),
    "method in lower case": (HEAD.replace(b"POST", b"post") + TWO, 400),
    "method of 3,000 bytes": (HEAD.replace(b"POST", b"P" * 3000) + TWO, 400),
    "CONNECT": (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "CONNECT with a path": (b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "target without a path": (HEAD.replace(b"/a", b"?a") + TWO, 400),
    "relative target": (HEAD.replace(b"/a", b"a") + TWO, 400),
    "host only": (HEAD.replace(b"/a", b"http://x") + TWO, 400),
    "port above 65535": (HEAD.replace(b"/a", b"http://x:99999/a") + TWO, 400),
    "fragment": (HEAD.replace(b"/a", b"/a#b") + TWO, 400),
    "UTF-8 in the target": (HEAD.replace(b"/a", "/é".encode()) + TWO, 400),
    "UTF-8 in the query": (HEAD.replace(b"/a", "/a?é".encode()) + TWO, 400),
    "NUL in the target": (HEAD.replace(b"/a", b"/\x00") + TWO, 400),
    "LF in a chunk extension": (HEAD + CHUNKED + b"2;a\nb\r\nab\r\n0\r\n\r\n", 400),
    "space after a chunk size": (HEAD + CHUNKED + b"2 \r\nab\r\n0\r\n\r\n", 400),
    "space before a chunk size": (HEAD + CHUNKED + b" 2\r\nab\r\n0\r\n\r\n", 400),
    "chunk size 0x2": (HEAD + CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n", 400),
    "chunk size -2": (HEAD + CHUNKED + b"-2\r\nab\r\n0\r\n\r\n", 400),
    "empty chunk size": (HEAD + CHUNKED + b"\r\nab\r\n0\r\n\r\n", 400),
    "chunk size of 68 bits": (HEAD + CHUNKED + b"10000000000000002\r\nab\r\n0\r\n\r\n", 400),
    "chunks with LF": (HEAD + CHUNKED + b"2\nab\n0\n\n", 400),
    "chunk without an end": (HEAD + CHUNKED + b"2\r\nabXX0\r\n\r\n", 400),
    "CL as trailer": (HEAD + CHUNKED + b"2\r\nab\r\n0\r\nContent-Length: 30\r\n\r\n", 400),
    "TE as trailer": (HEAD + CHUNKED + b"2\r\nab\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "NUL as trailer": (HEAD + CHUNKED + b"2\r\nab\r\n0\r\nX\x00\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "headers above the limit": (HEAD + b"X-A: " + b"a" * LIMIT + b"\r\n" + TWO, 431),
    "target above the limit": (HEAD.replace(b"/a", b"/" + b"a" * LIMIT) + TWO, 431),
}  # fmt: skip
"""Requests that are refused with this status. The connection is closed."""

CODES = {400: "invalid_http", 405: "method_not_allowed", 431: "headers_too_large", 505: "invalid_http"}

OVERHEAD = {
    "long trailer": b"2\r\nab\r\n0\r\nX-A: " + b"a" * 3 * LIMIT,
    "many trailers": b"0\r\n" + b"X-A: a\r\n" * LIMIT,
    "long chunk extension": b"1;a=" + b"a" * 3 * LIMIT,
    "many chunk extensions": (b"1;" + b"a" * 100 + b"\r\na\r\n") * LIMIT,
}
"""Bodies with little content, without their end."""


class Wire(asyncio.Transport):
    """A transport that keeps what the server writes."""

    def __init__(self):
        super().__init__()
        self.written, self.closed, self.paused = b"", asyncio.Event(), False

    def write(self, data):
        assert not self.closed.is_set()
        self.written += data

    def close(self):
        self.closed.set()

    def is_closing(self):
        return self.closed.is_set()

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False


async def echo(scope, receive, send):
    """Answer with what the application sees of a request; read the whole body, as all operations with a body do."""
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body, more = body + message["body"], message["more_body"]
    headers = sorted(name.decode() for name, _ in scope["headers"])
    seen = json.dumps({"path": scope["path"], "body": body.decode("latin-1"), "headers": headers}).encode()
    length = str(len(seen)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": seen})


def exchange(pieces):
    """Send bytes in these pieces on one connection until the server closes it; return statuses and bodies."""

    async def run():
        protocol = limited_protocol(
            ConnectionLimit(1), seconds=60, header_bytes=LIMIT, on_rejected=lambda record: None
        )(config=uvicorn.Config(echo, ws="none", log_level="critical"), server_state=ServerState(), app_state={})
        wire = Wire()
        protocol.connection_made(wire)
        for piece in pieces:
            while wire.paused and not wire.closed.is_set():
                await asyncio.sleep(0)
            protocol.data_received(piece)
            await asyncio.sleep(0)  # the application reads what has arrived
        await asyncio.wait_for(wire.closed.wait(), 10)
        protocol.connection_lost(None)
        return wire.written

    responses = re.split(rb"(?=HTTP/1\.1 \d{3} )", asyncio.run(run()))[1:]
    return [(int(one[9:12]), json.loads(one.partition(b"\r\n\r\n")[2])) for one in responses]


def cuts(stream):
    """Yield the whole stream, its single bytes, and two random cuts of it."""
    yield [stream]
    if len(stream) < 3000:
        yield [stream[place : place + 1] for place in range(len(stream))]
    for seed in range(2):
        places = [0, *sorted(Random(seed).sample(range(1, len(stream)), 4)), len(stream)]
        yield [stream[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_request_ends_where_its_body_ends(name):
    request, body = ACCEPTED[name]
    for pieces in cuts(request + request + LAST):
        responses = exchange(pieces)
        assert [status for status, _ in responses] == [200, 200, 200], pieces
        seen = [content for _, content in responses]
        assert [one["path"] for one in seen] == ["/a", "/a", "/last"]
        assert [one["body"].encode() for one in seen] == [body, body, b""]
        assert "authorization" not in seen[0]["headers"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_request_ends_the_connection(name):
    request, status = REFUSED[name]
    for pieces in cuts(request + LAST):
        ((found, content),) = exchange(pieces)
        assert (found, content["error"]["code"]) == (status, CODES[status])
        assert content["error"]["message"].endswith(".")


def test_a_request_after_one_that_closes_the_connection_is_ignored():
    for extra in (b"", H2C.replace(b"Connection: ", b"Connection: close, ")):
        request = HEAD + (extra or b"Connection: close\r\n") + TWO
        for pieces in cuts(request + LAST):
            assert [content["path"] for _, content in exchange(pieces)] == ["/a"]


def segments(stream):
    return [stream[place : place + 1000] for place in range(0, len(stream), 1000)]


@pytest.mark.parametrize("name", OVERHEAD)
def test_a_body_with_little_content_is_refused(name):
    ((status, content),) = exchange(segments(HEAD + CHUNKED + OVERHEAD[name]))
    assert (status, content["error"]["code"]) == (400, "invalid_http")


def test_chunks_of_one_byte_are_accepted():
    first, last = exchange([*segments(HEAD + CHUNKED + b"1\r\na\r\n" * 3 * LIMIT + b"0\r\n\r\n"), LAST])
    assert (first[1]["body"], last[0]) == ("a" * 3 * LIMIT, 200)


H2C_HEADERS = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQCAAAAAAIAAAAA"}


def test_embeddings_are_computed_for_clients_that_offer_http2(http):
    plain = http.post("/v1/embeddings", json={"input": "a"}).json()
    for _ in range(3):
        assert http.post("/v1/embeddings", json={"input": "a"}, headers=H2C_HEADERS).json()["data"] == plain["data"]


def test_a_websocket_gets_an_answer_of_http(http):
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    assert http.get("/health", headers=upgrade).status_code == 200
    answer = http.get("/v1/embeddings", headers=upgrade)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_with_http2_gets_vectors(url):
    command = ["curl", "-s", "--http2", f"{url}/v1/embeddings", "-H", "Content-Type: application/json"]
    answer = subprocess.run([*command, "-d", '{"input": "a"}'], capture_output=True, timeout=60, check=True)
    assert json.loads(answer.stdout)["data"][0]["index"] == 0
