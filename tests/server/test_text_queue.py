"""Long texts are tokenized by workers of their own: fairly, bounded in bytes, cancelled, within the deadline."""

import asyncio
import gc
import http.client
import json
import sys
import threading
import time
import tracemalloc
import weakref
from concurrent.futures import CancelledError
from contextlib import closing

import httpx
import pytest
from serving import QUIET, serving
from starlette.requests import Request

from embergem.errors import Cancelled, InvalidRequest, Overloaded
from embergem.server.errors import handle_embergem_error
from embergem.server.state import ServerState
from embergem.server.text_queue import SMALL, TextQueue

LARGE = 8 * SMALL


class Worker:
    """Keeps a worker of a queue busy until it is told to finish."""

    def __init__(self, queue, size=LARGE, tenant="flood"):
        self.token = None
        self._begun, self._end = threading.Event(), threading.Event()
        self.future = queue.submit(self._work, size, tenant)
        assert self._begun.wait(60)

    def _work(self, token):
        self.token = token
        self._begun.set()
        assert self._end.wait(60)

    def finish(self):
        self._end.set()


@pytest.fixture
def queue():
    return TextQueue(100 * LARGE, workers=1)


def test_all_threads_run_before_the_first_request(monkeypatch):
    queue = TextQueue(LARGE, workers=3)

    def fail(thread):
        raise AssertionError("a thread is started for a request")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert queue.decode(lambda: "decoded").result(60) == "decoded"
    for size in (SMALL, LARGE):
        assert [queue.submit(lambda _: "done", size, "").result(60) for _ in range(4)] == ["done"] * 4


def test_tenants_share_the_workers_by_bytes(queue):
    order = []
    worker = Worker(queue)
    works = [queue.submit(lambda _: order.append("flood"), LARGE, "flood") for _ in range(30)]
    works += [queue.submit(lambda _: order.append("other"), LARGE, "other") for _ in range(2)]
    worker.finish()
    for work in works:
        work.result(60)
    assert order[:4].count("other") == 2
    assert len(order) == 32


def test_a_small_request_does_not_wait_for_large_ones(queue):
    worker = Worker(queue)
    flood = [queue.submit(lambda _: "large", LARGE, "") for _ in range(30)]
    assert queue.submit(lambda _: "small", SMALL, "").result(60) == "small"
    assert not any(work.done() for work in flood)
    worker.finish()
    assert [work.result(60) for work in flood] == ["large"] * 30


def test_a_small_text_of_a_batch_waits_with_the_large_ones(queue):
    worker = Worker(queue)
    line = queue.submit(lambda _: "line", SMALL, "", bulk=True)
    assert (queue.queued_bytes("bulk"), queue.queued_bytes("interactive")) == (SMALL, 0)
    assert queue.submit(lambda _: "small", SMALL, "").result(60) == "small"
    assert not line.done()
    worker.finish()
    assert line.result(60) == "line"


def test_cancelled_work_leaves_the_queue_and_running_work_is_told(queue):
    worker = Worker(queue)
    flood = [queue.submit(lambda _: pytest.fail("cancelled work ran"), LARGE, "") for _ in range(30)]
    assert all(work.cancel() for work in flood)
    assert not worker.token.cancelled
    assert not worker.future.cancel()
    assert worker.token.cancelled
    last = queue.submit(lambda _: "last", LARGE, "")
    worker.finish()
    assert last.result(60) == "last"
    with pytest.raises(CancelledError):
        flood[0].result(60)


def test_a_tenant_with_too_many_bytes_is_refused_and_others_are_not():
    queue = TextQueue(LARGE, workers=1)
    worker = Worker(queue)
    waiting = [queue.submit(lambda _: None, LARGE, "flood") for _ in range(2)]
    with pytest.raises(Overloaded, match="bytes wait to be tokenized") as refused:
        queue.submit(lambda _: None, LARGE, "flood")
    assert refused.value.retry_after >= 1
    waiting.append(queue.submit(lambda _: None, 50 * LARGE, "other"))  # one request of any size
    worker.finish()
    for work in waiting:
        work.result(60)


@pytest.mark.parametrize("text", ["word ", "a", "."])
def test_the_deadline_holds_while_a_text_is_tokenized(registry, text):
    """The timeout of issue 15 took 32 s; here the workers are free again soon after it."""
    state = ServerState(registry, QUIET)
    long = {"input": text * ((6 << 20) // len(text))}
    with serving(state) as url, httpx.Client(base_url=url, timeout=60) as client:
        late = client.post("/v1/tokenize", json=long, headers={"X-Request-Timeout": "0.02"})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert state.texts.submit(lambda _: "free", LARGE, "").result(10) == "free"


def post(url, path, body, timeout="60", *, hang_up=False):
    """Send a request and return the status; with `hang_up` close the connection at once. httpx would keep the body."""
    connection = http.client.HTTPConnection(httpx.URL(url).netloc.decode(), timeout=60)
    with closing(connection):
        connection.request("POST", path, body, {"X-Request-Timeout": timeout})
        return None if hang_up else connection.getresponse().status


def test_no_request_leaves_its_texts_in_memory(registry):
    """Without the garbage collector, which would run too late: a few large objects do not start it."""
    text = "word " * 260_000
    state = ServerState(registry, QUIET)
    requests = (
        (200, "/v1/tokenize", {"input": text}, {}),
        (200, "/v1/embeddings", {"input": text, "truncate_sequence": True}, {}),
        (400, "/v1/embeddings", {"input": text}, {}),
        (400, "/v1/tokenize", {"input": text, "titel": "misspelt"}, {}),
        (504, "/v1/tokenize", {"input": text}, {"timeout": "0.01"}),
        (None, "/v1/tokenize", {"input": text}, {"hang_up": True}),
    )
    with serving(state) as url:
        for _, path, body, options in requests:
            post(url, path, json.dumps(body), **options)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for status, path, body, options in requests:
                found = post(url, path, json.dumps(body), **options)
                assert found == status
                for _ in range(500):  # the response is sent before the request is forgotten
                    if (left := tracemalloc.get_traced_memory()[0]) < len(text) // 2:
                        break
                    state.texts.submit(lambda _: time.sleep(0.01), LARGE, "").result(60)
                assert left < len(text) // 2, (status, path, options)
        finally:
            tracemalloc.stop()
            gc.enable()


@pytest.mark.parametrize(("kind", "status"), [(InvalidRequest, 400), (Cancelled, 499)])
def test_an_answered_error_keeps_no_local_variables(kind, status):
    """A request's texts are local variables of the frames in the error's traceback."""

    class Text:
        pass

    texts = []

    def fail():
        text = Text()
        texts.append(weakref.ref(text))
        raise kind("The test fails.")

    with pytest.raises(kind) as caught:
        fail()
    assert texts[0]() is not None
    answer = asyncio.run(handle_embergem_error(Request({"type": "http"}), caught.value))
    assert answer.status_code == status
    assert texts[0]() is None


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of the address space")
def test_a_text_for_which_the_address_space_is_too_small_fails_alone(queue, monkeypatch):
    """The tokenizers library would end the process."""
    assert queue.submit(lambda _: "done", 1 << 44, "").result(60) == "done"  # without a limit nothing is checked
    monkeypatch.setattr("resource.getrlimit", lambda _: (1 << 40, 1 << 40))
    with pytest.raises(MemoryError, match="address space"):
        queue.submit(lambda _: pytest.fail("the text was tokenized"), 1 << 44, "").result(60)
    assert queue.submit(lambda _: "done", LARGE, "").result(60) == "done"


def test_an_error_reaches_the_caller(queue):
    with pytest.raises(ZeroDivisionError):
        queue.submit(lambda _: 1 // 0, 1, "").result(60)


def test_a_flood_of_long_texts_does_not_delay_other_clients(registry):
    """The attack of issue 15: many long texts, whose clients hang up, and then a request of 20 short inputs."""
    state = ServerState(registry, QUIET)
    workers = [Worker(state.texts) for _ in range(state.texts.threads)]
    flood = [state.texts.submit(lambda _: None, LARGE, "") for _ in range(30)]
    try:
        with serving(state) as url, httpx.Client(base_url=url, timeout=60) as http:
            assert http.post("/v1/tokenize", json={"input": ["graphene"] * 20}).status_code == 200
            assert http.post("/v1/embeddings", json={"input": ["graphene"] * 20}).status_code == 200
            long = {"input": "graphene " * 20_000, "truncate_sequence": True}
            for path in ("/v1/tokenize", "/v1/embeddings"):
                late = http.post(path, json=long, headers={"X-Request-Timeout": "0.05"})
                assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
            assert not any(work.done() for work in flood)
            for worker in workers:
                worker.finish()
            assert http.post("/v1/tokenize", json=long).json()["data"][0]["count"] > 20_000
    finally:
        for worker in workers:
            worker.finish()
