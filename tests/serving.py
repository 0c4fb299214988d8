"""A server on a free port, for as long as a test wants it."""

import threading
from contextlib import contextmanager

from embergem.config import Settings
from embergem.server.keys import KeyRing
from embergem.server.run import bind, server
from embergem.server.service import Service


@contextmanager
def running(registry, settings=None, keys=()):
    """Serve `registry`; yields the address."""
    settings = settings or Settings(log_level="error", access_log="off")
    with bind("127.0.0.1", 0) as listener:
        made = server(Service(registry, settings, KeyRing(keys)))
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            made.should_exit = True
            thread.join()
