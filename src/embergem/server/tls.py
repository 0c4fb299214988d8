"""TLS: the certificate of the server, read again on SIGHUP, and the handshake of each connection.

uvicorn's own TLS has no limit of connections whose handshake is not complete, and keeps the certificate of the start.
Here each TCP connection counts towards the limit of connections from its first moment, and may be closed for a new one
until its handshake is complete. Each handshake uses the certificate that was read last. HTTP without TLS is answered
with an error that says what to change.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from embergem.errors import InvalidConfig
from embergem.server.connections import ConnectionLimit
from embergem.server.http1 import StrictProtocol

log = logging.getLogger("embergem.server")

HANDSHAKE_TIMEOUT = 10.0
"""Seconds after which a connection whose handshake is not complete is closed."""

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that a closed connection waits for the client to close it as well."""

EXPIRES_SOON = 14 * 24 * 3600.0
"""Seconds before the end of a certificate from which the log warns."""

_PARTIAL_CHAIN, _NO_CHECK_TIME = 0x80000, 0x200000  # flags of OpenSSL's X509_verify_cert


class Certificate:
    """The certificate and private key of the server.

    Args:
        certificate: PEM file with the server's certificate, followed by those of the intermediate authorities.
        key: PEM file with the private key, without a passphrase.

    Attributes:
        context: What a handshake needs.

    Raises:
        InvalidConfig: A file cannot be read or used, or the key does not belong to the certificate.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self.context = read_certificate(certificate, key)

    def reload(self) -> None:
        """Read the files again; later handshakes use the new certificate.

        Raises:
            InvalidConfig: As above; the previous certificate stays in use.
        """
        self.context = read_certificate(*self._files)


def read_certificate(certificate: Path, key: Path) -> ssl.SSLContext:
    """Read a certificate and its key. The log warns of a certificate that has expired, or will soon.

    Raises:
        InvalidConfig: A file cannot be read or used, or the key does not belong to the certificate.
    """
    _require_pem(certificate, "tls_cert", "CERTIFICATE-----")
    _require_pem(key, "tls_key", "PRIVATE KEY-----")

    def refuse_passphrase() -> str:
        raise InvalidConfig(
            f"tls_key: the key {key} is encrypted with a passphrase. Decrypt it with "
            f"`openssl pkey -in {key} -out NEW_FILE`, and let only the server's user read the new file."
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidConfig(
                f"tls_key: the key {key} does not belong to the certificate {certificate}. The first certificate of "
                "that file must be the server's own."
            ) from None
        raise InvalidConfig(f"tls_cert, tls_key: {certificate} and {key} cannot be used: {error}.") from None
    _warn_of_dates(context, certificate)
    return context


def _require_pem(file: Path, setting: str, kind: str) -> None:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidConfig(f"{setting}: the file {file} cannot be read: {error.strerror}.") from None
    if kind.encode() not in content:
        raise InvalidConfig(
            f"{setting}: the file {file} has no line `-----BEGIN {kind}`. It must be a PEM file with "
            f"{'the certificate of the server' if setting == 'tls_cert' else 'its private key'}."
        )


def _warn_of_dates(context: ssl.SSLContext, file: Path) -> None:
    """Log a warning if the certificate of `context` is not valid now, or ends soon.

    The ssl module shows the dates of a certificate only to a client that has accepted it, so a client in this process
    makes a handshake with `context`. It trusts exactly this certificate and does not compare the dates.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(file)
    client.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN | _NO_CHECK_TIME)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for one in ends * 3:
        with suppress(ssl.SSLWantReadError):
            one.do_handshake()
    shown = ends[0].getpeercert() or {}
    begin, end = str(shown["notBefore"]), str(shown["notAfter"])
    now = time.time()
    if now < ssl.cert_time_to_seconds(begin):
        log.warning("The certificate %s is not valid before %s. Clients refuse it.", file, begin)
    elif now > ssl.cert_time_to_seconds(end):
        log.warning("The certificate %s expired at %s. Clients refuse it.", file, end)
    elif now > ssl.cert_time_to_seconds(end) - EXPIRES_SOON:
        log.warning("The certificate %s expires at %s. Renew it, then send SIGHUP.", file, end)


def tls_protocol(
    http: Callable[..., StrictProtocol], certificate: Certificate, limit: ConnectionLimit
) -> type[asyncio.Protocol]:
    """Return a protocol class that makes the TLS handshake of a connection, and then lets `http` take over."""

    class TlsProtocol(asyncio.Protocol):
        transport: asyncio.Transport
        handshake: "asyncio.Task[None]"

        def __init__(self, *, server_state: Any, **arguments: Any) -> None:
            self.connections: set[Any] = server_state.connections
            self.make_http = partial(http, server_state=server_state, **arguments)
            self.received = bytearray()  # bytes that arrived before their reader was in place
            self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport
            self.connections.add(self)
            # If no connection is idle, this one may stay for its handshake, so that `http` can answer 503.
            limit.make_room(self.connections)
            limit.mark_idle(self)
            self.handshake = asyncio.get_running_loop().create_task(self.shake_hands())

        def data_received(self, data: bytes) -> None:
            self.received += data
            if not self.begun.done():
                self.transport.pause_reading()  # the bytes are for the TLS layer
                self.begun.set_result(None)

        def connection_lost(self, exc: Exception | None) -> None:
            if not self.begun.done():
                self.begun.set_result(None)

        def shutdown(self) -> None:
            """Close the connection, because the server stops."""
            self.transport.abort()

        async def shake_hands(self) -> None:
            """Make the handshake, and let `http` take over."""
            until = time.monotonic() + HANDSHAKE_TIMEOUT
            await asyncio.wait((self.begun,), timeout=HANDSHAKE_TIMEOUT)
            is_tls = not self.received[:1].isalpha()  # a handshake begins with the byte 22, and HTTP with a letter
            encrypted: asyncio.Transport | None = None
            if self.begun.done() and not self.transport.is_closing():
                encrypted = await self.start_tls(until - time.monotonic()) if is_tls else self.transport
            self.connections.discard(self)
            limit.mark_busy(self)
            if encrypted is None or encrypted.is_closing():
                self.transport.abort()
                return
            protocol = self.make_http()
            encrypted.set_protocol(protocol)
            protocol.connection_made(encrypted)
            if not is_tls:
                protocol.reject(400, "This port speaks TLS. The address must begin with https://.", "invalid_http")
            elif self.received:  # a request that came in one segment with the end of the handshake
                protocol.data_received(bytes(self.received))

        async def start_tls(self, seconds: float) -> asyncio.Transport | None:
            """Return the encrypted transport, or None if the handshake failed or took too long."""
            loop = asyncio.get_running_loop()
            loop.call_soon(self.pass_on)
            try:
                return await loop.start_tls(
                    self.transport,
                    self,
                    certificate.context,
                    server_side=True,
                    ssl_handshake_timeout=max(seconds, 0.001),
                    ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
                )
            except OSError as error:  # also ssl.SSLError
                reason = str(error) or "the client closed the connection"
                log.info("The TLS handshake with %s failed: %s.", self.address(), reason)
                return None

        def pass_on(self) -> None:
            """Pass on the bytes that arrived before the TLS layer."""
            layer: Any = self.transport.get_protocol()  # an `asyncio.BufferedProtocol`
            while self.received:
                buffer = layer.get_buffer(len(self.received))
                size = min(len(buffer), len(self.received))
                buffer[:size] = self.received[:size]
                del self.received[:size]
                layer.buffer_updated(size)

        def address(self) -> str:
            """Return the address of the client."""
            peer = self.transport.get_extra_info("peername")
            return str(peer[0]) if peer else "-"

    return TlsProtocol
