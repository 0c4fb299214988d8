"""Requests that are not done when the server stops, and signals at any time of its life."""

import asyncio
import json
import logging
import signal
import socket
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from serving import running_server, serving
from starlette.responses import StreamingResponse

from embergem.cli import main
from embergem.config import Settings
from embergem.errors import ModelFailed
from embergem.registry import Registry, Spec
from embergem.server import run
from embergem.server.access_log import AccessLogMiddleware
from embergem.server.app import Endpoint, create_app
from embergem.server.build import build_state
from embergem.server.openapi import Operation
from embergem.server.run import bind, make_server
from embergem.server.signals import RELOAD, Signals
from embergem.server.state import ServerState

SOON = Settings(log_level="warning", access_log="off", drain_timeout=0.01)


class Records(logging.Handler):
    """Keeps the records of a logger."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


def stop_at_first_line(line):
    """Stop the server of this process when it announces its address.

    The signal of a later line could come after the stop, when it would end the process of the tests.
    """
    if line.startswith("listening on"):
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def records(monkeypatch):
    """Return what the server logs. Tracebacks are faults."""
    handler = Records()
    monkeypatch.setattr(run.log, "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [handler])
    yield handler.records
    assert [record.getMessage() for record in handler.records if record.exc_info] == []


class Slow:
    """A `submit` of an engine whose work is never done."""

    def __init__(self):
        self.entered, self.work = threading.Event(), []

    def __call__(self, request):
        self.work.append(Future())
        self.entered.set()
        return self.work[-1]


@pytest.fixture
def slow(registry, monkeypatch):
    """Make the default model of `registry` slow."""
    submit = Slow()
    monkeypatch.setattr(registry.peek("gemma3_text"), "submit", submit)
    return submit


def closed(answer):
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (503, "engine_closed", "server_error")
    assert "drain_timeout" in error["message"]
    assert answer.headers["x-request-id"]


def embed(url):
    return httpx.post(f"{url}/v1/embeddings", json={"input": "a"}, timeout=60)


def test_a_request_that_takes_longer_than_drain_timeout_gets_503(registry, slow, records):
    with ThreadPoolExecutor() as pool:
        with serving(ServerState(registry, SOON)) as url:
            answer = pool.submit(embed, url)
            assert slow.entered.wait(30)
        closed(answer.result())
    assert [work.cancelled() for work in slow.work] == [True]


def test_a_request_that_waits_for_a_load_gets_503(tiny, records):
    entered, leave = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def load():
        entered.set()
        in_time.append(leave.wait(60))
        raise ValueError("the test ends")

    with Registry() as models, ThreadPoolExecutor() as pool, bind("127.0.0.1", 0) as listener:
        models.add("slow", Spec(load=load, lazy=True))
        server = make_server(ServerState(models, SOON))
        server.on_stopped = leave.set
        with running_server(server, listener):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models/load"
            answer = pool.submit(httpx.post, url, json={"model_id": "slow"}, timeout=60)
            assert entered.wait(30)
        closed(answer.result())
    assert in_time == [True]  # the server released the load instead of waiting for it


@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
def test_a_request_whose_body_is_half_sent_gets_503(registry, records, framing):
    state = ServerState(registry, SOON)
    entered = threading.Event()
    read = state.bodies.read

    async def reading(context):
        entered.set()
        return await read(context)

    state.bodies.read = reading
    with socket.socket() as connection:
        with serving(state) as url:
            host, port = url.removeprefix("http://").split(":")
            connection.connect((host, int(port)))
            connection.sendall(f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n{framing}".encode())
            assert entered.wait(30)
        connection.settimeout(30)
        received = b""
        while part := connection.recv(1 << 16):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["error"]["code"] == "engine_closed"


def test_a_forced_stop_answers_the_requests_too(registry, slow, records):
    server = make_server(ServerState(registry, Settings(log_level="warning", access_log="off", drain_timeout=1e6)))
    with ThreadPoolExecutor() as pool, bind("127.0.0.1", 0) as listener:
        with running_server(server, listener):
            answer = pool.submit(embed, f"http://127.0.0.1:{listener.getsockname()[1]}")
            assert slow.entered.wait(30)
            server.force_exit = True
        closed(answer.result())


def test_a_stream_that_takes_longer_than_drain_timeout_is_cut_off(records):
    async def parts():
        yield b"data: 1\n\n"
        await asyncio.Event().wait()

    async def endless(context):
        return StreamingResponse(parts(), media_type="text/event-stream")

    with Registry() as models:
        state = ServerState(models, SOON)
        server = make_server(state)
        server.config.app = AccessLogMiddleware(
            Endpoint(Operation("GET", "/endless", endless, "open"), state), state.metrics, SOON
        )
        with bind("127.0.0.1", 0) as listener, running_server(server, listener):
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/endless"
            with httpx.stream("GET", url, timeout=60) as stream:
                lines = stream.iter_lines()
                assert next(lines) == "data: 1"
                server.stop()
                with pytest.raises(httpx.RemoteProtocolError):
                    list(lines)
    assert any("was not sent whole" in record.getMessage() for record in records)


def test_an_application_inside_another_server_leaves_cancelling_to_it(registry, slow):
    """Only a server that stops turns a cancelled request into a response."""
    scope = {
        "type": "http", "method": "POST", "path": "/v1/embeddings", "raw_path": b"/v1/embeddings", "query_string": b"",
        "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "scheme": "http", "root_path": "",
    }  # fmt: skip

    async def run_and_cancel():
        messages = asyncio.Queue()
        messages.put_nowait({"type": "http.request", "body": b'{"input": "a"}', "more_body": False})
        task = asyncio.ensure_future(create_app(registry)(scope, messages.get, messages.put))
        while not slow.entered.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert messages.empty()

    asyncio.run(run_and_cancel())


@pytest.mark.skipif(RELOAD is None, reason="this system has no SIGHUP")
def test_a_reload_is_called_once_for_each_sighup():
    reloads = []
    with Signals() as signals:
        signals.reload_with(lambda: reloads.append("first"))
        assert reloads == []
        signals.reload_with(None)
        signal.raise_signal(signal.SIGHUP)
        signals.reload_with(lambda: reloads.append("pending"))
        signals.reload_with(lambda: reloads.append("again"))
        assert reloads == ["pending"]
        signal.raise_signal(signal.SIGHUP)
    assert reloads == ["pending", "again"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_server_exists_ends_the_process_cleanly(serve_tiny, number):
    def keys():
        signal.raise_signal(number)
        raise AssertionError("the signal did not end the process")

    with pytest.raises(SystemExit) as caught:
        serve_tiny(keys)
    assert caught.value.code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_just_before_the_server_runs_stops_it(serve_tiny, monkeypatch, number):
    start = run.Server.run

    def signal_and_run(server, sockets):
        signal.raise_signal(number)
        start(server, sockets)

    monkeypatch.setattr(run.Server, "run", signal_and_run)
    assert serve_tiny()


def test_a_server_without_a_host_listens_on_the_loopback_address(serve_tiny):
    lines = []

    def announce(line):
        if not lines:
            signal.raise_signal(signal.SIGTERM)
        lines.append(line)

    assert serve_tiny(announce=announce)
    assert lines[0].startswith("listening on http://127.0.0.1:")


def test_a_stop_does_not_wait_for_a_model_that_is_loading(serve_tiny, monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def load():
        entered.set()
        leave.wait(10)
        raise ModelFailed("The test ends.")

    def build(*given):
        state = build_state(*given)
        state.registry.add("slow", Spec(load=load))
        return state

    def announce(line):
        assert entered.wait(30)
        stop_at_first_line(line)

    monkeypatch.setattr(run, "build_state", build)
    try:
        assert serve_tiny(announce=announce) is False  # the load is not complete
    finally:
        leave.set()


@pytest.mark.skipif(RELOAD is None, reason="this system has no SIGHUP")
def test_a_sighup_before_the_server_runs_reloads_the_keys_when_it_does(serve_tiny):
    reloaded = threading.Event()
    calls = []

    def keys():
        calls.append(len(calls))
        if len(calls) == 1:
            signal.raise_signal(RELOAD)
        else:
            reloaded.set()
        return ()

    def announce(line):
        reloaded.wait(30)
        stop_at_first_line(line)

    assert serve_tiny(keys, announce)
    assert len(calls) == 2


@pytest.mark.skipif(RELOAD is None, reason="this system has no SIGHUP")
def test_a_sighup_after_the_stop_is_ignored(serve_tiny, monkeypatch):
    start = run.Server.run

    def run_and_signal(server, sockets):
        start(server, sockets)
        signal.raise_signal(RELOAD)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(run.Server, "run", run_and_signal)
    assert serve_tiny(announce=stop_at_first_line)


@pytest.mark.skipif(RELOAD is None, reason="this system has no SIGHUP")
def test_a_sighup_during_the_imports_of_the_command_is_ignored(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["embergem", "serve", "--help"])
    before = signal.getsignal(RELOAD)
    try:
        with pytest.raises(SystemExit):
            main()
        assert signal.getsignal(RELOAD) is signal.SIG_IGN
    finally:
        signal.signal(RELOAD, before)
