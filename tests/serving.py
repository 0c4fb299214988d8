"""A server on a free port, for the time of a test."""

import socket
import threading
from contextlib import contextmanager

from embergem.config import Settings
from embergem.server.api_keys import KeyStore
from embergem.server.build import build_state
from embergem.server.run import bind, make_server
from embergem.server.state import ServerState

QUIET = Settings(log_level="critical", access_log="off")


def free_port():
    """Return a port that is free now, for a program that takes a number only."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(registry, settings=QUIET, keys=()):
    """Serve the models of a registry; yields the address."""
    with serving(ServerState(registry, settings, KeyStore(keys))) as address:
        yield address


@contextmanager
def configured(*entries, settings=QUIET, keys=()):
    """Serve the models of a configuration; yields the address and the registry."""
    state = build_state(settings, entries, keys)
    try:
        with serving(state) as address:
            yield address, state.registry
    finally:
        state.registry.close()


@contextmanager
def serving(state):
    """Run a server on a thread; yields the address."""
    with bind("127.0.0.1", 0) as listener, running_server(make_server(state), listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def running_server(server, listener):
    """Run `server` on a thread; stop it at the end."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.002)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
