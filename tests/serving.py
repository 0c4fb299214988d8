"""A server on a free port, for as long as a test wants it."""

import threading
from contextlib import contextmanager

from embergem.config import Settings
from embergem.server.api_keys import KeyStore
from embergem.server.build import build_state
from embergem.server.run import bind, make_server
from embergem.server.state import ServerState

QUIET = Settings(log_level="critical", access_log="off")


@contextmanager
def running(registry, settings=QUIET, keys=()):
    """Serve loaded models; yields the address."""
    with serving(ServerState(registry, settings, KeyStore(keys))) as address:
        yield address


@contextmanager
def configured(*entries, settings=QUIET, keys=()):
    """Serve the models of a configuration; yields the address and the registry."""
    service = build_state(settings, entries, keys)
    try:
        with serving(service) as address:
            yield address, service.registry
    finally:
        service.registry.close()


@contextmanager
def serving(service):
    """Serve a service; yields the address."""
    with bind("127.0.0.1", 0) as listener:
        made = make_server(service)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        while not made.started and thread.is_alive():
            thread.join(0.002)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            made.should_exit = True
            thread.join()
