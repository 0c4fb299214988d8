"""The number of Python calls of one HTTP query, from the request to the response, on all threads.

A request goes down whole: entry point, prompt and tokens, scheduler, native call. Functions that only pass their
arguments on would show here. The query is new to the cache, and the model (the tiny static golden) costs nothing.
"""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import configured

from embergem.config import EmbeddingEntry, Settings
from embergem.options import LoadOptions

SOURCE = str(Path(sys.modules["embergem"].__file__).parent)
STATIC = Path(__file__).parents[1] / "data" / "goldens" / "static"

MOST_BEFORE_NATIVE = 45
"""Calls of named functions from the parsed request to the native run: without code of the connection, comprehensions
and resumed coroutines."""
MOST = 128
"""All calls of embergem's code. Ten of them check the request line and the headers; on a busy machine the result takes
longer than `WATCH_AFTER`, and watching the connection takes six more."""

HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

CONNECTION = {"server/connections.py", "server/http1.py"}
COMPREHENSIONS = {"<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"}


class CallRecorder:
    """Records the calls of embergem's code on all threads that start while it is installed."""

    def __init__(self):
        self.recording = False
        self.calls = []
        self._frames = []  # keeps the frames alive, so that a resumed frame is recognised by its identity
        self._blocked = {}  # whether each thread is in a call of `acquire`

    def __enter__(self):
        threading.setprofile(self._on_event)
        return self

    def __exit__(self, *_):
        threading.setprofile(None)

    def _on_event(self, frame, event, arg):
        name = threading.current_thread().name
        self._blocked[name] = event == "c_call" and getattr(arg, "__name__", "") == "acquire"
        if not self.recording:
            return
        if event == "c_call" and getattr(arg, "__qualname__", "") == "Model.run":
            self.calls.append((name, "native", "Model.run", True))
        elif event == "call" and frame.f_code.co_filename.startswith(SOURCE):
            code = frame.f_code
            resumed = any(frame is other for other in self._frames)
            self._frames.append(frame)
            named = not resumed and code.co_name not in COMPREHENSIONS
            self.calls.append((name, code.co_filename[len(SOURCE) + 1 :], code.co_qualname, named))

    def at_rest(self):
        """Return whether all threads of the engine wait for work."""
        return all(blocked for name, blocked in self._blocked.items() if name.startswith("embergem static"))

    def before_native(self):
        """Return the calls of named functions before the native run, without the code of the connection."""
        native = next(place for place, call in enumerate(self.calls) if call[1] == "native")
        return [call for call in self.calls[:native] if call[3] and call[1] not in CONNECTION]


class Logged(logging.Handler):
    """Counts lines of the access log, which are the last step of each request."""

    count = 0

    def emit(self, record):
        self.count += 1


@pytest.fixture(scope="module")
def recorded():
    """Record the calls of one query."""
    entry = EmbeddingEntry(name="static", options=LoadOptions(model=str(STATIC)))
    access, logged = logging.getLogger("embergem.access"), Logged()
    level, propagate, handlers = access.level, access.propagate, access.handlers
    access.handlers, access.propagate = [logged], False  # without those that other tests left
    access.setLevel(logging.INFO)
    settings = Settings(log_level="critical", access_log="text")
    try:
        with CallRecorder() as recorder, configured(entry, settings=settings) as (url, registry):
            registry.load("static")
            host, port = url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), 30) as connection:
                for number, body in enumerate((b'{"input": "what is graphene"}', b'{"input": "a carbon lattice"}'), 1):
                    until(recorder.at_rest)
                    recorder.recording = number == 2  # the first request fills caches
                    connection.sendall(HEAD % len(body) + body)
                    assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
                    until(lambda number=number: logged.count == number and recorder.at_rest())
                    recorder.recording = False
    finally:
        access.handlers, access.propagate = handlers, propagate
        access.setLevel(level)
    return recorder


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def listing(calls):
    return "\n".join(f"{number:4} {' '.join(call[:3])}" for number, call in enumerate(calls, 1))


def test_few_named_functions_lie_between_the_request_and_the_native_run(recorded):
    calls = recorded.before_native()
    assert len(calls) <= MOST_BEFORE_NATIVE, f"{len(calls)} calls:\n{listing(calls)}"
    assert {"AccessLogMiddleware.__call__", "Engine.submit"} <= {call[2] for call in calls}


def test_a_query_makes_few_calls(recorded):
    assert len(recorded.calls) <= MOST, f"{len(recorded.calls)} calls:\n{listing(recorded.calls)}"
