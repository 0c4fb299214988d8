"""HTTP/1.1 on one connection: uvicorn's protocol over llhttp (httptools), with the rules that llhttp leaves out.

llhttp refuses requests whose end two servers could see in different places (request smuggling): `Content-Length` beside
`Transfer-Encoding` or twice, folded headers, lines that end without a carriage return. `StrictProtocol` adds the rules
about the version, the host, transfer codings and trailers, and ignores the header `Upgrade`.
"""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

VERSIONS = ("1.0", "1.1")
FRAMING = (b"content-length", b"transfer-encoding")
"""Headers that say where the body of a request ends."""


class Refused(Exception):
    """A request breaks a rule of `StrictProtocol`. Raised in a callback of the parser, which stops the parser.

    Attributes:
        status: HTTP status of the response.
        code: Error code of the response.
    """

    def __init__(self, message: str, status: int = 400, code: str = "invalid_http") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def check_head(method: str, version: str, target: bytes, headers: list[tuple[bytes, bytes]], limit: int) -> None:
    """Check the request line and the headers of a request. The names of `headers` are in lower case.

    Raises:
        Refused: They break a rule of RFC 9112 that llhttp does not check, or have more than `limit` bytes.
    """
    size, hosts, codings = len(target), 0, []
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings.append(value.lower())
    if size > limit:
        raise Refused(f"The headers have more than {limit} bytes.", 431, "headers_too_large")
    if version not in VERSIONS:
        raise Refused(f"This server speaks HTTP/1.1 and HTTP/1.0, not HTTP/{version}.", 505)
    if method == "CONNECT":
        raise Refused("This server is no proxy, so it does not have the method CONNECT.", 405, "method_not_allowed")
    if b"#" in target or not _has_path(target):
        raise Refused("The request line must have a path such as /v1/embeddings, in ASCII and without a fragment (#).")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise Refused(f"The request has {hosts} Host headers. Send one.")
    if codings and (codings != [b"chunked"] or version == "1.0"):
        raise Refused("The only transfer coding that this server reads is `Transfer-Encoding: chunked` of HTTP/1.1.")


def _has_path(target: bytes) -> bool:
    try:
        return target.isascii() and httptools.parse_url(target).path is not None
    except httptools.HttpParserInvalidURLError:
        return False


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's protocol for httptools with stricter rules.

    - A request must pass `check_head`.
    - `Upgrade` is ignored, as RFC 9110 allows: the request is answered over HTTP/1.1.
    - Trailers are dropped. uvicorn would add them to the headers of the request that is already being answered.

    Attributes:
        max_header_bytes: Most bytes of the request line and headers.
        in_body: Whether a request has complete headers and an incomplete body. It may have a response already.
    """

    max_header_bytes: int
    in_body = False
    _replaying = False  # whether the parser reads headers that this protocol has already

    def data_received(self, data: bytes) -> None:
        """Parse bytes of the client."""
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                    self._ignore_upgrade()
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if not isinstance(refused, Refused):
                raise
            self.reject(refused.status, str(refused), refused.code)
        except httptools.HttpParserError as error:
            self.reject(400, f"The request is not valid HTTP/1.1: {error}.", "invalid_http")

    def reject(self, status: int, message: str, code: str) -> None:
        """Answer with an error and close the connection."""
        raise NotImplementedError

    def _ignore_upgrade(self) -> None:
        """Read the body of the present request.

        llhttp takes all bytes after a header `Upgrade` for another protocol. A new parser continues there: it reads
        the headers that say where the body ends, without `Upgrade`.
        """
        lines = [name + b": " + value for name, value in self.headers if name in FRAMING]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._replaying = True
        self.parser.feed_data(b"\r\n".join((b"POST / HTTP/1.1", *lines, b"", b"")))
        self._replaying = False

    def on_message_begin(self) -> None:
        """Begin a request."""
        if not self._replaying:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Read a part of the request's target."""
        if not self._replaying:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; drop a trailer."""
        if not self.in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the headers, and start to answer the request."""
        if self._replaying:
            return
        method, version = self.parser.get_method().decode("ascii"), self.parser.get_http_version()
        check_head(method, version, self.url, self.headers, self.max_header_bytes)
        super().on_headers_complete()
        self.in_body = True

    def on_message_complete(self) -> None:
        """Note the end of the body, but not where llhttp stops at a header `Upgrade`."""
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self.in_body = False
