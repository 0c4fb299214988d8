"""What a batch depends on besides its lines: restarts, models, upstream servers, other clients, and clocks."""

import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import threading
import time

import httpx
import msgspec
import openai
import pytest
from batching import Clock, batch_server, finished, jsonl, line, results, start
from goldens import DATA
from serving import QUIET, serving

from embergem.config import EmbeddingEntry, Key, UpstreamEntry
from embergem.errors import Overloaded, UnsupportedOption
from embergem.options import LoadOptions
from embergem.server import wait
from embergem.server.api_keys import hash_key
from embergem.server.batches import batch_run, batch_service, clock, input_lines, line_retries, upload
from embergem.server.batches.batch_service import BatchService
from embergem.server.batches.input_lines import LineReader
from embergem.server.batches.line_answer import LineAnswer, encode_answer
from embergem.server.build import build_state
from embergem.server.wait import Pacer


@pytest.fixture
def gate(registry, monkeypatch):
    """Let the default model answer only as many requests as the returned semaphore was released."""
    engine, allowed = registry.peek("gemma3_text"), threading.Semaphore(0)
    submit = engine.submit

    def waiting(request, *given):
        if not allowed.acquire(blocking=False):
            raise Overloaded("The test is not ready.", retry_after=0.01)
        return submit(request, *given)

    monkeypatch.setattr(engine, "submit", waiting)
    return allowed


def wait_for(client, batch, condition):
    while not condition(found := client.batches.retrieve(batch.id)):
        threading.Event().wait(0.01)
    return found


def test_a_server_that_stops_keeps_the_answers_and_the_next_one_goes_on(registry, tmp_path, gate, monkeypatch):
    monkeypatch.setattr(batch_run, "PART_SECONDS", 0.0)
    lines = [line(number) for number in range(30)]
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        running = start(client, lines)
        gate.release(7)
        wait_for(client, running, lambda found: found.request_counts.completed == 7)
        queued = start(client, lines)
        wait_for(client, queued, lambda found: found.status == "in_progress")
    gate.release(60 - 7)
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        assert [one.id for one in client.batches.list()] == [queued.id, running.id]
        for batch in running, queued:
            found = finished(client, batch)
            assert (found.status, found.request_counts.completed) == ("completed", 30)
            output = results(client, found.output_file_id)
            assert [one["custom_id"] for one in output] == [one["custom_id"] for one in lines]
    assert not gate.acquire(blocking=False)  # no line was computed twice


def test_a_batch_that_is_being_cancelled_when_the_server_stops_is_cancelled_by_the_next_one(registry, tmp_path, gate):
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        batch = start(client, [line(1)])
        wait_for(client, batch, lambda found: found.errors)
        server.store.change(server.store.unfinished[batch.id], status="cancelling", cancelling_at=5)
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        assert finished(client, batch).status == "cancelled"


def test_a_batch_that_expired_while_no_server_ran_is_expired(registry, tmp_path, gate, monkeypatch):
    monkeypatch.setattr(batch_run, "PART_BYTES", 1)
    now = Clock()
    with batch_server(registry, tmp_path / "batches", now=now) as server, server.client() as client:
        batch = start(client, [line(1), line(2)])
        wait_for(client, batch, lambda found: found.errors)
    now.now += 3 * 24 * 3600
    with batch_server(registry, tmp_path / "batches", now=now) as server, server.client() as client:
        found = finished(client, batch)
        assert (found.status, found.request_counts.failed) == ("expired", 2)
        assert [one["custom_id"] for one in results(client, found.error_file_id)] == ["request-1", "request-2"]


def test_a_batch_can_be_cancelled_while_its_lines_are_checked(registry, tmp_path, monkeypatch):
    check, checking, go = batch_run.check_lines, threading.Event(), threading.Event()

    def slow(*given):
        checking.set()
        go.wait(30)
        return check(*given)

    monkeypatch.setattr(batch_run, "check_lines", slow)
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        batch = start(client, [line(1)])
        assert checking.wait(30)
        assert client.batches.cancel(batch.id).status == "cancelling"
        go.set()
        found = finished(client, batch)
        assert (found.status, found.request_counts.completed, found.in_progress_at) == ("cancelled", 0, None)


def test_lines_may_take_longer_than_other_requests(registry, tmp_path):
    settings = msgspec.structs.replace(QUIET, request_timeout=1e-6)
    with batch_server(registry, tmp_path / "batches", settings=settings) as server, server.client() as client:
        lines = [line(number, input="a text that no cache has " * (60 * number + 1), truncate_sequence=True)
                 for number in range(3)]  # fmt: skip
        with pytest.raises(openai.APIStatusError) as refused:
            client.embeddings.create(model="default", input="another text that no cache has")
        assert refused.value.code == "deadline_exceeded"
        found = finished(client, start(client, lines))
        assert (found.status, found.request_counts.completed) == ("completed", 3)


@pytest.mark.parametrize("expired", [False, True])
def test_an_input_that_is_changed_on_the_disk_ends_the_batch(registry, tmp_path, gate, expired):
    now = Clock()
    with batch_server(registry, tmp_path / "batches", now=now) as server, server.client() as client:
        batch = start(client, [line(1), line(2)])
        wait_for(client, batch, lambda found: found.errors)
        path = server.store.path(batch.input_file_id)
    path.write_bytes(path.read_bytes()[:-20] + b"\n")
    gate.release(2)
    now.now += 10**6 if expired else 0
    with batch_server(registry, tmp_path / "batches", now=now) as server, server.client() as client:
        found = finished(client, batch)
        assert (found.status, [error.code for error in found.errors.data]) == ("failed", ["invalid_json_line"])


def test_one_batch_of_a_key_is_computed_at_a_time_and_keys_do_not_wait_for_each_other(registry, tmp_path, monkeypatch):
    engine, tenants = registry.peek("gemma3_text"), []
    submit, go = engine.submit, threading.Event()

    def recorded(request, *given):
        tenants.append((request.tenant, request.lane))
        if request.tenant == "one/batches" and not go.is_set():
            raise Overloaded("The test is not ready.", retry_after=0.01)
        return submit(request, *given)

    monkeypatch.setattr(engine, "submit", recorded)
    monkeypatch.setattr(batch_run, "WINDOW_LINES", 2)
    keys = [Key(name=name, sha256=hash_key(name)) for name in ("one", "two")]
    with (
        batch_server(registry, tmp_path / "batches", keys=keys) as server,
        server.client("one") as one,
        server.client("two") as two,
    ):
        waiting = start(one, [line(number) for number in range(40)])
        assert finished(two, start(two, [line(number) for number in range(40)])).status == "completed"
        assert one.batches.retrieve(waiting.id).status == "in_progress"
        go.set()
        batches = [start(one, [line(number) for number in range(40)]) for _ in range(2)]
        done = [finished(one, batch) for batch in (waiting, *batches)]
        assert [found.status for found in done] == ["completed"] * 3
        assert done[1].completed_at <= done[2].finalizing_at
    assert set(tenants) == {("one/batches", "bulk"), ("two/batches", "bulk")}


def test_lines_for_an_upstream_model_are_forwarded_and_tried_again_while_it_fails(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(line_retries, "RETRY_SECONDS", (0.01, 0.01))
    with batch_server(registry, tmp_path / "upstream") as upstream:
        entry = UpstreamEntry(name="far", upstream=f"{upstream.url}/v1", upstream_model="gemma3_text")
        nobody = UpstreamEntry(name="gone", upstream="http://127.0.0.1:9/v1")
        settings = msgspec.structs.replace(QUIET, batch_path=str(tmp_path / "batches"))
        state = build_state(settings, [entry, nobody], ())
        try:
            with serving(state) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
                lines = [line(1, model="far"), line(2, model="far", dimensions=5)]
                batch = finished(client, start(client, lines))
                [output] = results(client, batch.output_file_id)
                [error] = results(client, batch.error_file_id)
                direct = httpx.post(f"{upstream.url}/v1/embeddings", json=line(1)["body"]).json()
                assert output["response"]["body"] == direct | {"model": "gemma3_text"}
                assert error["response"]["body"]["error"]["code"] == "invalid_dimensions"
                lost = start(client, [line(1, model="gone")])
                found = wait_for(client, lost, lambda found: found.errors)
                assert [one.code for one in found.errors.data] == ["upstream_failed"]
                client.batches.cancel(lost.id)
                assert finished(client, lost).status == "cancelled"
        finally:
            state.batches.close()
            state.registry.close()


def test_only_an_admin_key_sees_the_path_of_a_model_that_cannot_be_loaded(tmp_path):
    model = shutil.copytree(DATA / "gemma3_text", tmp_path / "private-place")
    (model / "config.json").write_text("{")
    entry = EmbeddingEntry(name="broken", options=LoadOptions(model=str(model)))
    keys = [Key(name="user", sha256=hash_key("user")), Key(name="ops", sha256=hash_key("ops"), admin=True)]
    settings = msgspec.structs.replace(QUIET, batch_path=str(tmp_path / "batches"))
    state = build_state(settings, [entry], keys)
    try:
        with serving(state) as url:
            state.registry.wait()
            for key, seen in (("user", False), ("ops", True)):
                with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
                    batch = start(client, [line(1, model="broken")])
                    found = wait_for(client, batch, lambda found: found.errors)
                    [error] = found.errors.data
                    assert (error.code, "private-place" in error.message) == ("model_failed", seen)
    finally:
        state.batches.close()
        state.registry.close()


def test_a_new_key_with_the_same_name_has_the_files_of_the_old_one(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(line_retries, "RETRY_SECONDS", (0.01, 0.01))
    keys = [Key(name="one", sha256=hash_key("one")), Key(name="ops", sha256=hash_key("ops"), admin=True)]
    with (
        batch_server(registry, tmp_path / "batches", keys=keys) as server,
        server.client("one") as one,
        server.client("ops") as ops,
    ):
        file = one.files.create(file=("a", jsonl([line(1)])), purpose="batch")
        server.state.keys.replace(keys[1:])
        batch = ops.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        assert finished(ops, batch).status == "completed"
        with pytest.raises(openai.AuthenticationError):
            one.files.list()
        rotated = Key(name="one", sha256=hash_key("new secret"))
        server.state.keys.replace([*keys[1:], rotated])
        with server.client("new secret") as renewed:
            assert [found.id for found in renewed.files.list()] == [file.id]


def test_interactive_requests_are_answered_while_a_batch_runs(registry, tmp_path, monkeypatch):
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        batch = start(client, [line(number, input="word " * 40) for number in range(3000)])
        wait_for(client, batch, lambda found: found.request_counts.completed)
        for number in range(20):
            assert client.embeddings.create(model="default", input=f"a question {number}").data
        assert client.batches.retrieve(batch.id).status == "in_progress"
        client.batches.cancel(batch.id)
        assert finished(client, batch).status == "cancelled"


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_form_that_arrives_in_pieces_is_read_whole(registry, tmp_path, monkeypatch, size):
    monkeypatch.setattr(upload, "BLOCK", size)
    content = b"--b\r\n--\r\n\r\n--bb--\r\n-" * 9  # parts of boundaries are no boundary
    body = (
        b'--bbb\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--bbb\r\nContent-Type: a/b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + content
        + b"\r\n--bbb--\r\n"
    )
    with batch_server(registry, tmp_path / "batches") as server, server.http() as http:
        pieces = (body[place : place + size] for place in range(0, len(body), size))
        headers = {"content-type": "multipart/form-data; boundary=bbb"}
        file = http.post("/v1/files", content=pieces, headers=headers).json()
        assert http.get(f"/v1/files/{file['id']}/content").content == content


def test_a_directory_without_the_package_for_uploads_is_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(UnsupportedOption, match=r"--batch-path needs python-multipart.*embergem\[server\]"):
        BatchService.open(msgspec.structs.replace(QUIET, batch_path=str(tmp_path / "batches")))
    assert list(tmp_path.iterdir()) == []
    program = "import sys; sys.modules['python_multipart'] = None; import embergem.server.app"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_clock_that_is_set_forward_changes_nothing_until_the_time_has_passed(monkeypatch):
    wall, monotonic = [1000.0], [50.0]
    monkeypatch.setattr(clock.time, "time", lambda: wall[0])
    monkeypatch.setattr(clock.time, "monotonic", lambda: monotonic[0])
    now = clock.SteadyClock()
    assert now() == 1000
    wall[0] += 10**9
    assert now() == 1000
    monotonic[0] += 5
    assert now() == 1005
    wall[0] = 900
    assert now() == 900


def test_a_file_has_the_time_of_the_clock_and_is_kept_when_it_is_set_forward(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_service, "TICK_SECONDS", 0.01)
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        before = time.time
        first = client.files.create(file=("a", jsonl([line(1)])), purpose="batch")
        monkeypatch.setattr(time, "time", lambda: before() + 10**9)
        monkeypatch.setattr(server.state.batches, "now", time.time)
        second = client.files.create(file=("a", jsonl([line(1)])), purpose="batch")
        assert second.created_at - first.created_at >= 10**9
        batch = client.batches.create(input_file_id=first.id, endpoint="/v1/embeddings", completion_window="24h")
        assert finished(client, batch).status == "completed"
        end = time.monotonic() + 0.1  # some looks for expired files
        while time.monotonic() < end:
            assert len(client.files.list().data) == 3


def test_the_pacer_pauses_while_other_requests_are_in_progress():
    async def times(others):
        pacer, loop = Pacer(lambda: others), asyncio.get_running_loop()

        async def turn():
            await pacer.turn()
            return loop.time()

        found = await asyncio.gather(*(turn() for _ in range(5)))
        return [after - before for before, after in itertools.pairwise(found)]

    assert min(asyncio.run(times(1))) >= 0.9 * wait.PAUSE
    assert wait.PAUSE > 0


def test_a_state_counts_its_requests_for_the_pacer(registry, tmp_path):
    with batch_server(registry, tmp_path) as server:
        assert server.state.pacer._others() == 0
        server.state.metrics.in_flight += 1
        assert server.state.pacer._others() == 1
        server.state.metrics.in_flight -= 1


def test_the_pacer_lets_one_task_go_on_in_each_cycle():
    async def main():
        pacer, order, cycles = Pacer(), [], 0

        async def task(number):
            await pacer.turn()
            order.append((number, cycles))

        tasks = [asyncio.ensure_future(task(number)) for number in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        while not all(one.done() for one in tasks):
            cycles += 1
            await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(task(5)))  # a later one begins anew
        await asyncio.gather(*tasks, return_exceptions=True)
        return order

    order = asyncio.run(main())
    assert [number for number, _ in order] == [0, 1, 3, 4, 5]
    assert len({cycle for _, cycle in order[:4]}) == 4


def test_lines_are_read_from_any_place_on(tmp_path, monkeypatch):
    path = tmp_path / "input"
    path.write_bytes(b"a\n\nbb \r\n" + b"c" * 50 + b"\nd")

    def read(*place):
        with LineReader(path, 10, *place) as reader:
            return list(reader)

    whole = read()
    assert [(one.number, one.end, one.content) for one in whole] == [
        (1, 2, b"a"), (2, 3, b""), (3, 8, b"bb"), (4, 59, b"c" * 12), (5, 60, b"d"),
    ]  # fmt: skip
    for place, one in enumerate(whole):
        assert read(one.number, one.end) == whole[place + 1 :]
    monkeypatch.setattr(input_lines, "BLOCK_LINES", 2)
    assert read() == whole
    with LineReader(path, 10) as reader:
        assert len(reader.read()) == 2


def test_a_thread_that_checks_many_lines_lets_other_threads_run(tmp_path, monkeypatch):
    """The GIL is passed on every 5 ms otherwise, and a request of another client needs it several times."""
    sleeps = []
    monkeypatch.setattr(input_lines.time, "sleep", sleeps.append)
    (tmp_path / "lines").write_bytes(jsonl([line(number) for number in range(1000)]))
    with LineReader(tmp_path / "lines", 1000) as reader:
        assert input_lines.check_lines(reader, "/v1/embeddings", 1000, lambda _: None).requests == 1000
    assert sleeps == [0] * (1000 // input_lines.GIVE_WAY)
    assert input_lines.GIVE_WAY <= 64


def test_a_body_with_lines_of_its_own_becomes_one_line():
    answer = LineAnswer(200, b'{\n "a": [1,\n 2]\n}', 0, "", "")
    encoded = encode_answer("batch_1", 5, "id", answer)
    assert encoded.count(b"\n") == 1
    assert json.loads(encoded)["response"]["body"] == {"a": [1, 2]}
    assert encoded == encode_answer("batch_1", 5, "id", answer)
    assert json.loads(encoded)["id"] != json.loads(encode_answer("batch_1", 6, "id", answer))["id"]


def test_a_wide_window_is_shared_and_bounded_by_memory(registry, tmp_path, monkeypatch):
    """A line that alone exceeds the bound is computed alone."""
    monkeypatch.setattr(batch_run, "WINDOW_BYTES", 400_000)
    engine = registry.peek("gemma3_text")
    submit, at_once, most = engine.submit, set(), [0]

    def recorded(request, *given):
        work = submit(request, *given)
        at_once.add(work)
        most[0] = max(most[0], len([one for one in at_once if not one.done()]))
        return work

    monkeypatch.setattr(engine, "submit", recorded)
    with batch_server(registry, tmp_path / "batches") as server, server.client() as client:
        lines = [
            line(number, input=[f"{number} {place} " + "word " * 30 for place in range(60)]) for number in range(6)
        ]
        assert batch_run.estimate(jsonl(lines[:1])) > 400_000
        batch = finished(client, start(client, lines))
        assert (batch.status, batch.request_counts.completed) == ("completed", 6)
    assert most[0] == 1
