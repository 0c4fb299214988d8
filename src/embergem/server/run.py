"""`embergem serve`: uvicorn around the application, with its socket, signals, logs and start-up messages."""

import asyncio
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

import uvicorn

from embergem.config import Entry, Key, Settings
from embergem.engine import Engine
from embergem.errors import EmbergemError, InvalidConfig, ModelFailed, UnsupportedOption
from embergem.free_memory import limit_kept_memory
from embergem.memory_use import memory_use
from embergem.server.access_log import AccessRecord, record_rejected
from embergem.server.app import build_app
from embergem.server.auth import LOOPBACK
from embergem.server.build import build_state, warn_unknown_tasks
from embergem.server.connections import ConnectionLimit, limited_protocol, raise_descriptor_limit
from embergem.server.log_format import LineFormatter
from embergem.server.otel import exporting
from embergem.server.signals import Signals
from embergem.server.state import ServerState
from embergem.server.tls import tls_protocol
from embergem.tasks import Task

log = logging.getLogger("embergem.server")

SWEEP_SECONDS = 10.0
"""Longest time between two checks for idle models."""

FAREWELL_SECONDS = 2.0
"""Longest time that sending the errors to the requests that were cancelled at the stop may take."""


def serve(
    settings: Settings,
    entries: Sequence[Entry],
    signals: Signals,
    *,
    keys: Callable[[], Iterable[Key]] = tuple,
    announce: Callable[[str], None] = print,
) -> bool:
    """Load the models of `entries` and serve them until SIGINT or SIGTERM; requests in progress are finished first.

    The server listens while the models load, each on its own thread; `/ready` tells when all are loaded. `keys` reads
    the API keys, at the start and on SIGHUP, with the certificate. `signals` is the context around the call.

    Returns:
        False if a model is still loading. Its thread cannot be stopped, so a caller that does not want to wait for the
        thread ends the process.

    Raises:
        UnsupportedOption: The server cannot listen on the address, or OpenTelemetry is not installed.
        ModelFailed: None of the models could be loaded.
    """
    host = settings.host or LOOPBACK[0]
    with bind(host, settings.port) as listener, exporting(settings, os.environ) as tracing:
        state = build_state(settings, entries, keys(), tracing)
        log_to_stderr(settings)
        limit_kept_memory()
        if tracing is not None:
            log.info("Requests are traced with OpenTelemetry.")
        raise_descriptor_limit(settings.max_connections)
        shown = LOOPBACK[0] if host in ("0.0.0.0", "::") else host
        scheme = "http" if state.certificate is None else "https"
        url = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
        server = make_server(state)
        server.signals = signals
        server.on_reload = lambda: reload(state, keys)
        server.announce = lambda: announce_models(state, url, announce)
        server.on_stopped = lambda: state.registry.close(wait=False)
        # Also after the stop: uvicorn then raises the signal that stopped it again, and a clean stop is no failure.
        signals.stop_with(server.stop)
        try:
            server.run(sockets=[listener])
            if server.failed is not None:
                raise ModelFailed(server.failed)
        finally:
            complete = state.registry.close(wait=False)
            if state.batches is not None:
                state.batches.close()
    if not complete:
        log.warning("The server stopped while a model was loading; the load is abandoned.")
    return complete


class Server(uvicorn.Server):
    """uvicorn's server, which also loads models at the start, handles SIGHUP, and unloads idle models.

    Attributes:
        state: The state of the server.
        signals: The signal handlers of the process, if the server has the process for itself.
        on_reload: Called on SIGHUP.
        announce: Called on a thread after the start; prints the start-up messages.
        on_stopped: Called after the last response.
        failed: Why the server stopped by itself: the reasons for which no model could be loaded.
    """

    state: ServerState
    signals: Signals | None = None
    on_reload: Callable[[], None] | None = None
    announce: Callable[[], None] | None = None
    on_stopped: Callable[[], object] | None = None
    failed: str | None = None
    _sweeper: "asyncio.Task[None] | None" = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to load the models, then listen: the first request must find its model loading."""
        self.state.registry.start()
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        if self.signals is not None and (reload := self.on_reload) is not None:
            self.signals.reload_with(lambda: loop.call_soon_threadsafe(reload))
        if self.announce is not None:
            threading.Thread(target=self._announce, name="embergem announce", daemon=True).start()
        self._sweeper = loop.create_task(self._sweep())
        if self.state.batches is not None:
            self.state.batches.start(self.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests in progress within the setting `drain_timeout`, and cancel those that take longer."""
        if self.signals is not None:
            self.signals.reload_with(None)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.state.stopping.set()
        if self.state.batches is not None:
            await self.state.batches.stop()
        await super().shutdown(sockets)
        tasks = set(self.server_state.tasks)  # uvicorn has cancelled them, unless the stop was forced
        if self.force_exit:
            for task in tasks:
                task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=FAREWELL_SECONDS)
        if self.on_stopped is not None:  # before asyncio joins its threads, one of which may wait for a load
            self.on_stopped()
        for upstream in set(self.state.upstreams.values()):
            await upstream.close()

    def stop(self) -> None:
        """Begin to stop, as on SIGTERM."""
        self.should_exit = True

    def _announce(self) -> None:
        """Print the start-up messages; stop the server if every model failed to load."""
        assert self.announce is not None
        self.announce()
        registry = self.state.registry
        reasons = [registry.reason(name) for name in registry.names()]
        if reasons and all(reasons) and not self.state.upstreams:
            self.failed = "; ".join(filter(None, reasons))
            self.stop()

    async def _sweep(self) -> None:
        """Unload models that were idle for their `keep_alive`."""
        while True:
            due = await asyncio.to_thread(self.state.registry.sweep)
            await asyncio.sleep(min(SWEEP_SECONDS, max(0.1, due or SWEEP_SECONDS)))


def make_server(state: ServerState) -> Server:
    """Return the uvicorn server of `state`, to be run with sockets of the caller."""
    settings = state.settings

    def on_rejected(record: AccessRecord) -> None:
        record_rejected(record, state.metrics, settings)

    limit = ConnectionLimit(settings.max_connections)
    http = limited_protocol(
        limit,
        seconds=settings.receive_timeout,
        header_bytes=settings.max_header_bytes,
        on_rejected=on_rejected,
    )
    config = uvicorn.Config(
        build_app(state),
        http=http if state.certificate is None else tls_protocol(http, state.certificate, limit),
        ws="none",
        lifespan="off",
        log_level=settings.log_level,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.idle_timeout,  # type: ignore[arg-type]
        timeout_graceful_shutdown=settings.drain_timeout,  # type: ignore[arg-type]
    )
    server = Server(config)
    server.state = state
    state.metrics.connections = lambda: len(server.server_state.connections)
    return server


def reload(state: ServerState, keys: Callable[[], Iterable[Key]]) -> None:
    """Read the API keys and the certificate again."""
    reload_keys(state, keys)
    if state.certificate is not None:
        try:
            state.certificate.reload()
        except InvalidConfig as error:
            log.error("The certificate was not reloaded, and the previous one stays in force: %s", error)
        else:
            log.info("The certificate was reloaded.")


def reload_keys(state: ServerState, keys: Callable[[], Iterable[Key]]) -> None:
    """Read the API keys again. If the file cannot be used or has no keys, log an error and keep the present keys."""
    try:
        found = tuple(keys())
        if not found and not state.keys.open:
            raise InvalidConfig(
                "The key file has no keys. Add a key with `embergem keys new`, or stop the server to reject everyone."
            )
        state.keys.replace(found)
    except EmbergemError as error:
        log.error("The API keys were not reloaded, and the previous keys stay in force: %s", error)
    else:
        log.info("The API keys were reloaded.")
        warn_unknown_tasks(state)


def announce_models(state: ServerState, url: str, announce: Callable[[str], None]) -> None:
    """Print the address and an example at the start, and the properties of each model once all are loaded."""
    access = "no API key needed" if state.keys.open else "API key needed"
    announce(f"listening on {url}/v1 ({access}); API description: {url}/docs")
    if state.settings.batch_path is not None:
        announce(f"files and batches: {state.settings.batch_path}")
    if state.settings.ui:
        announce(f"playground: {url}/")
    for upstream in set(state.upstreams.values()):
        announce(f"{upstream.name}: forwarded to {upstream.address} as {upstream.model}")
    if not state.registry.wait():
        return
    warn_unknown_tasks(state)
    for name in state.registry.names():
        engine, reason = state.registry.peek(name), state.registry.reason(name)
        if engine is None:
            announce(f"{name}: {f'FAILED: {reason}' if reason else 'loaded at its first request'}")
            continue
        tasks = f"tasks {', '.join(distinct_tasks(engine))}" if engine.tasks else "no prompts"
        announce(
            f"{name}: {engine.dimensions} dimensions, up to {engine.limit} tokens, {engine.dtype} on "
            f"{engine.instruction_set} with {engine.threads} threads, batches of {engine.stats().max_batch_tokens} "
            f"tokens, {engine.weight_bytes / 2**20:,.0f} MiB of packed weights, {tasks}"
        )
    if (use := memory_use()) is not None:
        announce(f"memory: {use}")
    key = "" if state.keys.open else '-H "Authorization: Bearer $KEY" '
    announce(f"serving on {url}/v1, for example:")
    announce(
        f'  curl {url}/v1/embeddings {key}-H "Content-Type: application/json" '
        '-d \'{"model": "default", "input": "What is graphene?"}\''
    )


def distinct_tasks(engine: Engine) -> list[str]:
    """Return one task for each prompt of a model: the name of embergem, if the prompt has further names."""
    own = frozenset(Task)
    prompts: dict[str | None, str] = {}
    for name in sorted(engine.tasks, key=lambda name: name not in own):
        prompts.setdefault(engine.prompt(name), name)
    return sorted(prompts.values())


def log_to_stderr(settings: Settings) -> None:
    """Send embergem's log and the access log to standard error."""
    for name, form in (("embergem", "%(levelname)s: %(message)s"), ("embergem.access", "%(message)s")):
        logger = logging.getLogger(name)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(LineFormatter(form))
        logger.handlers[:] = [handler]
        logger.setLevel(settings.log_level.upper())
        logger.propagate = False
    logging.getLogger("embergem.access").setLevel(logging.INFO)


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        UnsupportedOption: The port is in use or needs more rights, or `host` is not an address of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform == "win32":  # there SO_REUSEADDR would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            param = "host"
            advice = "Give an address of this machine with --host: 127.0.0.1 for this machine only, 0.0.0.0 for all."
        elif error.errno == errno.EACCES:
            param, advice = "port", "This port needs more rights. Choose one from 1024 on with --port."
        else:
            param = "port"
            advice = "Stop the program that uses the port, or choose another port with --port."
        message = f"The server cannot listen on {host}:{port}: {error.strerror}. {advice}"
        raise UnsupportedOption(message, param=param) from None
    return listener
