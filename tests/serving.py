"""A server on a free port, for as long as a test wants it."""

import threading
from contextlib import contextmanager

import uvicorn

from embergem.server.app import bind, create_app


@contextmanager
def running(registry, settings=None):
    """Serve `registry`; yields the address."""
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(registry, settings), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
