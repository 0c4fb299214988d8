"""uvicorn around the application: the socket, signals, and what is said at the start."""

import asyncio
import contextlib
import importlib.util
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

import uvicorn

from embergem.config import Key, Settings
from embergem.errors import EmbergemError, UnsupportedOption
from embergem.registry import Registry
from embergem.server.app import application
from embergem.server.careful import careful
from embergem.server.gate import LOOPBACK
from embergem.server.keys import KeyRing
from embergem.server.service import Service

log = logging.getLogger("embergem.server")


def serve(
    registry: Registry,
    settings: Settings,
    *,
    keys: Callable[[], Iterable[Key]] = tuple,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT or SIGTERM; requests in work are finished first. SIGHUP calls `keys` again.

    Raises:
        UnsupportedOption: The address cannot be bound.
    """
    service = Service(registry, settings, KeyRing(keys()))
    host = settings.host or LOOPBACK[0]
    listener = bind(host, settings.port)
    shown = LOOPBACK[0] if host in ("0.0.0.0", "::") else host
    url = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
    for line in introduction(service, url):
        announce(line)
    log_to_stderr(settings)
    # uvicorn raises the signal that stopped it again once it has shut down; a clean stop is not a failure.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with listener:
            server(service, on_hangup=lambda: reread(service.keys, keys)).run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Server(uvicorn.Server):
    """uvicorn, with SIGHUP."""

    on_hangup: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and listen for SIGHUP where there is such a signal and this is the main thread."""
        await super().startup(sockets)
        if self.on_hangup is not None and hasattr(signal, "SIGHUP"):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.on_hangup)


def server(service: Service, *, on_hangup: Callable[[], None] | None = None) -> Server:
    """Make the server of a service; it is started with sockets of its own."""
    settings = service.settings
    config = uvicorn.Config(
        application(service),
        http=careful(
            _protocol(),
            seconds=settings.receive_timeout,
            header_bytes=settings.max_header_bytes,
            refused=service.metrics.refused,
        ),
        ws="none",
        lifespan="off",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=settings.idle_timeout,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.drain_timeout,  # type: ignore[arg-type]
    )
    made = Server(config)
    made.on_hangup = on_hangup
    return made


def _protocol() -> type[Any]:
    """The faster of uvicorn's parsers where it is installed (`embergem[server]`)."""
    if importlib.util.find_spec("httptools") is not None:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        return HttpToolsProtocol
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return H11Protocol


def reread(ring: KeyRing, keys: Callable[[], Iterable[Key]]) -> None:
    """Take the keys anew; with a file that cannot be used the old ones stay."""
    try:
        ring.replace(keys())
    except EmbergemError as error:
        log.error("the API keys stay as they were: %s", error)
    else:
        log.info("the API keys were read again")


def introduction(service: Service, url: str) -> list[str]:
    """What is served, how it is computed, and how to ask."""
    lines = []
    for name in service.registry.names():
        engine = service.registry.get(name)
        lines.append(
            f"{name}: {engine.dimensions} dimensions, up to {engine.limit} tokens, {engine.dtype} on "
            f"{engine.instruction_set} with {engine.threads} threads"
            + (f", tasks {', '.join(engine.tasks)}" if engine.tasks else ", no prompts")
        )
    lines.append("API keys are needed" if not service.keys.open else "no API keys: open to whoever can reach it")
    lines.append(f"serving on {url}/v1 ({url}/docs describes it), for example:")
    key = '-H "Authorization: Bearer $KEY" ' if not service.keys.open else ""
    lines.append(
        f'  curl {url}/v1/embeddings {key}-H "Content-Type: application/json" '
        '-d \'{"model": "default", "input": "What is graphene?"}\''
    )
    return lines


def log_to_stderr(settings: Settings) -> None:
    """Send our own log, and the access log as it is, to standard error."""
    for name, form in (("embergem", "%(levelname)s: %(message)s"), ("embergem.access", "%(message)s")):
        logger = logging.getLogger(name)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(form))
        logger.handlers[:] = [handler]
        logger.setLevel(settings.log_level.upper())
        logger.propagate = False
    logging.getLogger("embergem.access").setLevel(logging.INFO)


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise UnsupportedOption(
            f"cannot listen on {host}:{port}: {error.strerror}. Stop what uses it, or choose another with --port",
            param="port",
        ) from None
    return listener
