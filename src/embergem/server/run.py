"""uvicorn around the application: the socket, signals, and what is said at the start."""

import asyncio
import importlib.util
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import uvicorn

from embergem.config import Entry, Key, Settings
from embergem.errors import EmbergemError, InvalidConfig, ModelFailed, UnsupportedOption
from embergem.server.access_log import refusals
from embergem.server.app import application
from embergem.server.build import make_service, warn_of_tasks
from embergem.server.connections import careful
from embergem.server.descriptors import allow_connections
from embergem.server.local import LOOPBACK
from embergem.server.state import Service

log = logging.getLogger("embergem.server")


def serve(
    settings: Settings,
    entries: Sequence[Entry],
    *,
    keys: Callable[[], Iterable[Key]] = tuple,
    announce: Callable[[str], None] = print,
) -> bool:
    """Load the models of `entries` and serve them until SIGINT or SIGTERM; requests in work are finished first.

    Models load beside each other while the server already listens: `/ready` says when all are there. SIGHUP calls
    `keys` again. Returns whether all is at rest; else a model is still being loaded, on threads that end in their own
    time: a caller that does not want to wait for them ends the process.

    Raises:
        UnsupportedOption: The address cannot be bound.
        ModelFailed: None of the models could be loaded.
    """
    host = settings.host or LOOPBACK[0]
    with bind(host, settings.port) as listener:
        service = make_service(settings, entries, keys())
        log_to_stderr(settings)
        allow_connections(settings.max_connections)
        shown = LOOPBACK[0] if host in ("0.0.0.0", "::") else host
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
        # uvicorn raises the signal that stopped it again once it has shut down; a clean stop is not a failure.
        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            made = server(service)
            made.on_hangup = lambda: reread(service, keys)
            made.announce = lambda: introduce(service, url, announce)
            made.on_stopped = lambda: service.registry.close(wait=False)
            made.run(sockets=[listener])
            if made.failed is not None:
                raise ModelFailed(made.failed)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            at_rest = service.registry.close(wait=False)
    if not at_rest:
        log.warning("a model was still being loaded; that is given up")
    return at_rest


class Server(uvicorn.Server):
    """uvicorn, with models that load when it has started, SIGHUP, and idle models that are unloaded."""

    service: Service
    on_hangup: Callable[[], None] | None = None
    announce: Callable[[], None] | None = None
    on_stopped: Callable[[], object] | None = None
    failed: str | None = None
    _sweeper: "asyncio.Task[None] | None" = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to load, then listen: whoever asks first must not find the models neither loaded nor loading."""
        self.service.registry.start()
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        if self.on_hangup is not None and hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, self.on_hangup)
        if self.announce is not None:
            threading.Thread(target=self._introduce, name="embergem introduction", daemon=True).start()
        self._sweeper = loop.create_task(self._sweep())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is in work, for `drain_timeout` at most; what is left then is not waited for."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await super().shutdown(sockets)
        if self.on_stopped is not None:  # before asyncio waits for its threads: one may wait for a load
            self.on_stopped()
        for upstream in set(self.service.upstreams.values()):
            await upstream.close()

    def _introduce(self) -> None:
        """Announce; a server whose every model has failed is of no use to anybody, and stops."""
        assert self.announce is not None
        self.announce()
        registry = self.service.registry
        reasons = [registry.reason(name) for name in registry.names()]
        if reasons and all(reasons) and not self.service.upstreams:
            self.failed = "; ".join(filter(None, reasons))
            self.should_exit = True

    async def _sweep(self) -> None:
        """Unload what has been idle for long enough, when it is due and at least every ten seconds."""
        while True:
            due = await asyncio.to_thread(self.service.registry.sweep)
            await asyncio.sleep(min(10.0, max(0.1, due or 10.0)))


def server(service: Service) -> Server:
    """Make the server of a service; it is started with sockets of its own."""
    settings = service.settings
    config = uvicorn.Config(
        application(service),
        http=careful(
            _protocol(),
            seconds=settings.receive_timeout,
            header_bytes=settings.max_header_bytes,
            connections=settings.max_connections,
            refused=refusals(service.metrics, settings),
        ),
        ws="none",
        lifespan="off",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_keep_alive=settings.idle_timeout,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.drain_timeout,  # type: ignore[arg-type]
    )
    made = Server(config)
    made.service = service
    return made


def _protocol() -> type[Any]:
    """The faster of uvicorn's parsers where it is installed (`embergem[server]`)."""
    if importlib.util.find_spec("httptools") is not None:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        return HttpToolsProtocol
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return H11Protocol


def reread(service: Service, keys: Callable[[], Iterable[Key]]) -> None:
    """Take the keys anew; with a file that cannot be used, or has none any more, the old ones stay."""
    try:
        found = tuple(keys())
        if not found and not service.keys.open:
            raise InvalidConfig("the configuration has none any more. To admit nobody, stop the server")
        service.keys.replace(found)
    except EmbergemError as error:
        log.error("the API keys stay as they were: %s", error)
    else:
        log.info("the API keys were read again")
        warn_of_tasks(service)


def introduce(service: Service, url: str, announce: Callable[[str], None]) -> None:
    """Say what is served and how to ask, at once, and of each model how it is computed, when it is loaded."""
    need = "open to whoever can reach it" if service.keys.open else "only with an API key"
    announce(f"listening on {url}/v1, {need}; {url}/docs describes it")
    for upstream in set(service.upstreams.values()):
        announce(f"{upstream.name}: forwarded to {upstream.address} as {upstream.model}")
    if not service.registry.wait():
        return
    warn_of_tasks(service)
    for name in service.registry.names():
        engine, reason = service.registry.peek(name), service.registry.reason(name)
        if engine is None:
            announce(f"{name}: {f'FAILED: {reason}' if reason else 'loaded when it is first asked for'}")
            continue
        tasks = f"tasks {', '.join(engine.tasks)}" if engine.tasks else "no prompts"
        announce(
            f"{name}: {engine.dimensions} dimensions, up to {engine.limit} tokens, {engine.dtype} on "
            f"{engine.instruction_set} with {engine.threads} threads, batches of {engine.stats().max_batch_tokens} "
            f"tokens, {engine.weight_bytes / 2**20:,.0f} MiB of weights, {tasks}"
        )
    key = "" if service.keys.open else '-H "Authorization: Bearer $KEY" '
    announce(f"serving on {url}/v1, for example:")
    announce(
        f'  curl {url}/v1/embeddings {key}-H "Content-Type: application/json" '
        '-d \'{"model": "default", "input": "What is graphene?"}\''
    )


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
