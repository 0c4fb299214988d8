"""Decompressing request bodies in small steps, so that a short body cannot expand to much memory or block the loop."""

import zlib
from collections.abc import Iterable, Iterator

from embergem.errors import EmbergemError, InvalidRequest

ACCEPTED = "gzip, deflate"
"""Value of the header `Accept-Encoding` of a response that refuses another encoding."""

STEP = 256 * 1024
"""Most bytes of one step. zlib makes them in less than a millisecond."""

_RAW, _ZLIB, _GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS, zlib.MAX_WBITS | 16


class UnsupportedEncoding(EmbergemError):
    """The body is compressed in a way that the server does not read."""

    status = 415
    code = "unsupported_encoding"


class Inflater:
    """Decompresses a body that arrives in parts.

    Args:
        encoding: Value of the header `Content-Encoding`, in lower case.

    Raises:
        UnsupportedEncoding: It is neither gzip nor deflate.

    >>> b"".join(Inflater("gzip").inflate(zlib.compress(b"text", wbits=_GZIP), last=True))
    b'text'
    """

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding in ("gzip", "x-gzip")
        if not self._gzip and encoding != "deflate":
            raise UnsupportedEncoding(
                f"The header Content-Encoding is {encoding[:40]!r}. The server reads {ACCEPTED}: compress the body "
                "with one of them, or send it as it is."
            )
        self._zlib = zlib.decompressobj(_GZIP) if self._gzip else None

    @classmethod
    def of(cls, encodings: Iterable[str]) -> "Inflater | None":
        """Return what decompresses a body with these headers `Content-Encoding`; None if it is not compressed.

        Raises:
            UnsupportedEncoding: The body has another encoding, or several.
        """
        encoding = ", ".join(encodings).strip().lower()
        return None if encoding in ("", "identity") else cls(encoding)

    def inflate(self, part: bytes, *, last: bool) -> Iterator[bytes]:
        """Yield what a part of the body decompresses to, at most `STEP` bytes at a time.

        Raises:
            InvalidRequest: The part is not compressed in the declared way, or it is the last one and the end of the
                compressed body is missing.
        """
        more = False  # whether zlib may hold back what it decompressed already
        while part or more:
            if self._zlib is None and part:
                # "deflate" is the zlib format, but some clients send raw deflate, which never begins with this number.
                self._zlib = zlib.decompressobj(_ZLIB if part[0] & 0x0F == zlib.DEFLATED else _RAW)
            elif self._zlib is not None and self._zlib.eof and part:
                if not self._gzip:
                    raise InvalidRequest("The compressed body goes on after its end. Send one deflate stream.")
                self._zlib = zlib.decompressobj(_GZIP)  # a gzip body may have several members
            if self._zlib is None:
                break
            try:
                found = self._zlib.decompress(part, STEP)
            except zlib.error as error:
                raise InvalidRequest(
                    f"The body is not compressed as the header Content-Encoding says: {error}."
                ) from None
            part = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
            more = bool(found) and not self._zlib.eof
            if found:
                yield found
        if last and (self._zlib is None or not self._zlib.eof):
            raise InvalidRequest("The end of the compressed body is missing. Send the whole body.")
