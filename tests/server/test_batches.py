"""`/v1/batches` with OpenAI's client: results, errors of lines and of whole inputs, states, limits, and other keys."""

import asyncio
import json
import threading

import httpx
import msgspec
import openai
import pytest
from batching import Clock, batch_server, finished, jsonl, line, results, start
from serving import QUIET, running

from embergem.config import Key
from embergem.errors import ModelLoading, Overloaded
from embergem.server.api_keys import hash_key
from embergem.server.batches import batch_run, batch_service, input_lines
from embergem.server.batches.input_lines import LineRequest
from embergem.server.batches.line_answer import Temporary, answer_line

KEYS = [
    Key(name="one", sha256=hash_key("one"), batch_unfinished=2),
    Key(name="two", sha256=hash_key("two")),
    Key(name="ops", sha256=hash_key("ops"), admin=True),
]


@pytest.fixture
def server(registry, tmp_path):
    with batch_server(registry, tmp_path / "batches") as found:
        yield found


@pytest.fixture
def client(server):
    with server.client() as found:
        yield found


@pytest.fixture
def slow(registry, monkeypatch):
    """Make the default model answer nothing until the event is set; returns the event."""
    engine, go = registry.peek("gemma3_text"), threading.Event()
    submit = engine.submit

    def waiting(request, *given):
        if not go.is_set():
            raise Overloaded("The test is not ready.", retry_after=0.02)
        return submit(request, *given)

    monkeypatch.setattr(engine, "submit", waiting)
    return go


def test_a_batch_gives_what_the_endpoint_gives(server, client):
    bodies = [
        {},
        {"input": ["a", "b"], "encoding_format": "base64"},
        {"input": [[5, 6], [7]], "model": "gemma3_text"},
        {"task": "query", "encoding_dtype": "int8"},
        {"model": "default:document", "title": "T"},
        {"input": "x " * 3000, "truncate_sequence": True},
        {"model": "bert_mean"},
        {"dimensions": 5},
        {"input": []},
        {"inputs": "misspelt", "input": None},
    ]
    lines = [line(number, **body) for number, body in enumerate(bodies)]
    batch = finished(client, start(client, lines, metadata={"night": "7"}))
    assert (batch.status, batch.object, batch.metadata) == ("completed", "batch", {"night": "7"})
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (10, 7, 3)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    assert batch.expires_at == batch.created_at + 24 * 3600
    assert batch.model is None
    output, errors = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert [one["custom_id"] for one in output] == [f"request-{number}" for number in range(7)]
    assert [one["custom_id"] for one in errors] == [f"request-{number}" for number in range(7, 10)]
    tokens = 0
    for one in output + errors:
        body = lines[int(one["custom_id"].split("-")[1])]["body"]
        answer = httpx.post(f"{server.url}/v1/embeddings", content=json.dumps(body), timeout=60)
        response = one["response"]
        assert (response["status_code"], response["body"]) == (answer.status_code, answer.json())
        assert one["error"] is None
        assert one.keys() == {"id", "custom_id", "response", "error"}
        assert one["id"] == "batch_req_" + response["request_id"]
        tokens += answer.json().get("usage", {}).get("total_tokens", 0)
    assert batch.usage.total_tokens == batch.usage.input_tokens == tokens
    assert len({one["id"] for one in output + errors}) == 10


def test_many_lines_come_in_order_of_the_input(client, monkeypatch):
    monkeypatch.setattr(batch_run, "PART_BYTES", 20_000)
    lines = [line(number, input="word " * (number * 7 % 40 + 1)) for number in range(700)]
    batch = finished(client, start(client, lines))
    assert batch.model == "default"
    assert [one["custom_id"] for one in results(client, batch.output_file_id)] == [one["custom_id"] for one in lines]
    assert batch.error_file_id is None


def test_blank_lines_a_byte_order_mark_and_a_missing_newline_are_accepted(client):
    content = b"\xef\xbb\xbf" + jsonl([line(1)]).rstrip() + b"\r\n\n  \n" + jsonl([line(2)]).rstrip()
    batch = finished(client, start(client, content))
    assert [one["custom_id"] for one in results(client, batch.output_file_id)] == ["request-1", "request-2"]


def test_a_single_line_without_a_result_leaves_no_output(client):
    batch = finished(client, start(client, [line(1, dimensions=5)]))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    [one] = results(client, batch.error_file_id)
    assert one["response"]["body"]["error"]["code"] == "invalid_dimensions"


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (b"{", "invalid_json_line", "JSON"),
        (b"[1]", "invalid_request", "custom_id, method, url"),
        (b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings"}', "invalid_request", "body"),
        (jsonl([line(1) | {"custom_id": ""}]), "invalid_custom_id", "1 to 512"),
        (jsonl([line(1) | {"custom_id": 5}]), "invalid_request", "custom_id"),
        (jsonl([line(1) | {"method": "GET"}]), "invalid_method", "POST"),
        (jsonl([line(1) | {"url": "/v1/chat/completions"}]), "invalid_url", "/v1/embeddings"),
        (jsonl([line(1) | {"body": [1]}]), "invalid_request", "object"),
        (jsonl([line(1, model="gpt-4")]), "model_not_found", "gemma3_text"),
        (jsonl([line(7)]), "duplicate_custom_id", "line 1"),
        (b"\xff\xfe", "invalid_json_line", "JSON"),
        (jsonl([line(1, input="\ud800")]), "invalid_json_line", "lone surrogate"),
    ],
)
def test_a_wrong_line_fails_the_batch_with_its_number(client, wrong, code, words):
    batch = finished(client, start(client, jsonl([line(7)]) + b"\n" + wrong.rstrip() + b"\n" + jsonl([line(8)])))
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.failed_at >= batch.created_at
    [error] = batch.errors.data
    assert (error.line, error.code) == (3, code)
    assert words in error.message


def test_the_first_hundred_wrong_lines_are_listed(client):
    batch = finished(client, start(client, b"{\n" * 250))
    assert [error.line for error in batch.errors.data] == [*range(1, 101), None]
    assert batch.errors.data[-1].code == "too_many_errors"


def test_a_file_of_blank_lines_and_one_with_too_many_requests_fail(client, monkeypatch):
    [error] = finished(client, start(client, b"\n\n")).errors.data
    assert error.code == "empty_file"
    monkeypatch.setattr(input_lines, "MAX_REQUESTS", 3)
    [error] = finished(client, start(client, [line(number) for number in range(4)])).errors.data
    assert (error.code, error.line) == ("too_many_requests", 4)


def test_a_line_longer_than_a_body_fails_the_batch(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(input_lines, "OVERHEAD", 0)
    monkeypatch.setattr(batch_run, "OVERHEAD", 0)
    settings = msgspec.structs.replace(QUIET, max_body=1000)
    with batch_server(registry, tmp_path / "batches", settings=settings) as server, server.client() as client:
        batch = finished(client, start(client, [line(1), line(2, input="a" * 5_000_000), line(3)]))
        assert [(error.code, error.line) for error in batch.errors.data] == [("line_too_long", 2)]


@pytest.mark.parametrize(
    ("fields", "param", "status"),
    [
        ({"input_file_id": "file-none"}, "input_file_id", 404),
        ({"endpoint": "/v1/chat/completions"}, "endpoint", 400),
        ({"completion_window": "1h"}, "completion_window", 400),
        ({"metadata": {"a": "b" * 513}}, "metadata", 400),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", 400),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "output_expires_after", 400),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after", 400),
    ],
)
def test_a_batch_with_a_wrong_field_is_refused(client, fields, param, status):
    file = client.files.create(file=("a.jsonl", jsonl([line(1)])), purpose="batch")
    given = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h"} | fields
    with pytest.raises(openai.APIStatusError) as refused:
        client.batches.create(**given)
    assert refused.value.status_code == status
    assert refused.value.param.startswith(param)


def test_a_cancelled_batch_keeps_its_results(server, client, registry, monkeypatch):
    monkeypatch.setattr(batch_run, "PART_SECONDS", 0.0)
    engine = registry.peek("gemma3_text")
    submit = engine.submit
    done = []

    def some(request, *given):
        if len(done) == 5:
            raise ModelLoading("The test lets five pass.", retry_after=0.02)
        done.append(request)
        return submit(request, *given)

    monkeypatch.setattr(engine, "submit", some)
    batch = start(client, [line(number) for number in range(50)])
    while client.batches.retrieve(batch.id).request_counts.completed < 5:
        threading.Event().wait(0.01)
    while (found := client.batches.retrieve(batch.id)).errors is None:
        threading.Event().wait(0.01)
    assert found.errors.data[0].code == "model_loading"
    cancelling = client.batches.cancel(batch.id)
    assert cancelling.status in ("cancelling", "cancelled")
    assert cancelling.cancelling_at
    batch = finished(client, batch)
    assert (batch.status, batch.errors, batch.request_counts.completed) == ("cancelled", None, 5)
    assert [one["custom_id"] for one in results(client, batch.output_file_id)] == [f"request-{n}" for n in range(5)]
    assert client.batches.cancel(batch.id).status == "cancelled"
    monkeypatch.setattr(engine, "submit", submit)
    batch = finished(client, start(client, [line(1)]))
    with pytest.raises(openai.BadRequestError, match="completed cannot be cancelled"):
        client.batches.cancel(batch.id)


def test_a_batch_that_expires_keeps_its_results_and_names_the_other_lines(registry, tmp_path, monkeypatch, slow):
    monkeypatch.setattr(batch_service, "TICK_SECONDS", 0.02)
    clock = Clock()
    with batch_server(registry, tmp_path / "batches", now=clock) as server, server.client() as client:
        batch = start(client, [line(1), line(2)])
        while client.batches.retrieve(batch.id).errors is None:
            threading.Event().wait(0.01)
        clock.now += 24 * 3600 + 1
        batch = finished(client, batch)
        assert (batch.status, batch.output_file_id, batch.request_counts.failed) == ("expired", None, 2)
        assert batch.expired_at == int(clock.now)
        for one in results(client, batch.error_file_id):
            assert one["response"] is None
            assert one["error"]["code"] == "batch_expired"


def test_temporary_failures_are_tried_again_and_shown_meanwhile(client, slow):
    batch = start(client, [line(number) for number in range(20)])
    while (found := client.batches.retrieve(batch.id)).errors is None:
        threading.Event().wait(0.01)
    assert [(error.code, error.message) for error in found.errors.data] == [("overloaded", "The test is not ready.")]
    assert found.status == "in_progress"
    slow.set()
    batch = finished(client, batch)
    assert (batch.status, batch.errors, batch.request_counts.completed) == ("completed", None, 20)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(Overloaded("full", retry_after=7), 7), (ModelLoading("loading", retry_after=7), None), (OSError(), ...)],
)
def test_a_line_is_tried_again_soon_if_only_a_guess_says_when(server, registry, monkeypatch, error, seconds):
    """How long a model loads is a guess before its first load. A server that starts again must not wait for it."""

    def refuse(*_):
        raise error

    monkeypatch.setattr(registry.peek("gemma3_text"), "submit", refuse)
    request = LineRequest("a", "POST", "/v1/embeddings", msgspec.Raw(b'{"input": "a"}'))
    answer = answer_line(server.state, None, "batch_a", 1, request)
    if seconds is ...:  # no temporary failure
        assert asyncio.run(answer).status == 500
        return
    with pytest.raises(Temporary) as failed:
        asyncio.run(answer)
    assert (failed.value.reason.code, failed.value.seconds) == (error.code, seconds)


def test_keys_see_their_own_batches_and_an_admin_key_sees_all(registry, tmp_path):
    with batch_server(registry, tmp_path / "batches", keys=KEYS) as server:
        one, two, ops = map(server.client, ("one", "two", "ops"))
        batch = finished(one, start(one, [line(1)]))
        other = finished(two, start(two, [line(2)]))
        assert [found.id for found in one.batches.list()] == [batch.id]
        assert [found.id for found in two.batches.list()] == [other.id]
        assert [found.id for found in ops.batches.list()] == [other.id, batch.id]
        assert [found.owner for found in ops.batches.list()] == ["two", "one"]
        assert "owner" not in one.batches.retrieve(batch.id).model_extra
        assert ops.batches.retrieve(batch.id).status == "completed"
        assert ops.files.content(batch.output_file_id).text
        for call, id_ in [
            (two.batches.retrieve, batch.id),
            (two.batches.cancel, batch.id),
            (two.files.retrieve, batch.output_file_id),
            (two.files.content, batch.output_file_id),
            (two.files.delete, batch.output_file_id),
            (two.files.content, batch.input_file_id),
        ]:
            with pytest.raises(openai.NotFoundError):
                call(id_)
        with pytest.raises(openai.NotFoundError):
            two.batches.create(input_file_id=batch.input_file_id, endpoint="/v1/embeddings", completion_window="24h")
        with pytest.raises(openai.BadRequestError):
            two.batches.list(after=batch.id)
        with pytest.raises(openai.BadRequestError):
            two.files.list(after=batch.input_file_id)
        for key in (one, two, ops):
            key.close()


def test_a_key_may_have_so_many_unfinished_batches(registry, tmp_path, slow):
    with (
        batch_server(registry, tmp_path / "batches", keys=KEYS) as server,
        server.client("one") as one,
        server.client("two") as two,
    ):
        batches = [start(one, [line(1)]) for _ in range(2)]
        with pytest.raises(openai.PermissionDeniedError, match="2 unfinished batches") as refused:
            start(one, [line(1)])
        assert refused.value.code == "quota_exceeded"
        batches.append(start(two, [line(1)]))
        slow.set()
        for client, batch in zip((one, one, two), batches, strict=True):
            assert finished(client, batch).status == "completed"
        assert finished(one, start(one, [line(1)])).status == "completed"


def test_results_that_do_not_fit_wait_for_room(registry, tmp_path, monkeypatch):
    key = Key(name="one", sha256=hash_key("one"), batch_bytes=6000)
    with batch_server(registry, tmp_path / "batches", keys=[key]) as server, server.client("one") as client:
        big = client.files.create(file=("big", b"x" * 4000), purpose="batch")
        batch = start(client, [line(1)])
        while (found := client.batches.retrieve(batch.id)).errors is None:
            threading.Event().wait(0.01)
        assert [error.code for error in found.errors.data] == ["quota_exceeded"]
        client.files.delete(big.id)
        batch = finished(client, batch)
        assert (batch.status, batch.errors, batch.request_counts.completed) == ("completed", None, 1)


def test_a_batch_whose_key_was_removed_waits_for_it(registry, tmp_path, slow):
    with (
        batch_server(registry, tmp_path / "batches", keys=KEYS) as server,
        server.client("one") as one,
        server.client("ops") as ops,
    ):
        batch = start(one, [line(1)])
        server.state.keys.replace(KEYS[1:])
        while "api_key_removed" not in str(ops.batches.retrieve(batch.id).errors):
            threading.Event().wait(0.01)
        slow.set()
        assert ops.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        assert finished(ops, batch).status == "cancelled"


def test_a_new_vector_space_ends_a_batch(server, client, registry, monkeypatch):
    monkeypatch.setattr(batch_run, "WINDOW_LINES", 1)
    engine = registry.peek("gemma3_text")
    submit, count = engine.submit, []

    def replaced(request, *given):
        count.append(request)
        if len(count) == 3:
            monkeypatch.setattr(engine, "fingerprint", "0" * 64)
        return submit(request, *given)

    monkeypatch.setattr(engine, "submit", replaced)
    batch = finished(client, start(client, [line(number) for number in range(5)]))
    [error] = batch.errors.data
    assert (batch.status, error.code, error.line) == ("failed", "model_changed", 3)
    assert [one["custom_id"] for one in results(client, batch.output_file_id)] == ["request-0", "request-1"]


def test_tokens_of_batches_leave_half_of_a_minute_to_other_requests(registry, tmp_path):
    key = Key(name="one", sha256=hash_key("one"), tokens_per_minute=100)
    with batch_server(registry, tmp_path / "batches", keys=[key]) as server, server.client("one") as client:
        batch = start(client, [line(number, input="word " * 5) for number in range(30)])
        while (found := client.batches.retrieve(batch.id)).errors is None:
            threading.Event().wait(0.01)
        assert [error.code for error in found.errors.data] == ["rate_limit_exceeded"]
        assert client.embeddings.create(model="default", input="a word").data
        client.batches.cancel(batch.id)
        assert finished(client, batch).status == "cancelled"


def test_batches_are_listed_in_pages(client):
    file = client.files.create(file=("a.jsonl", jsonl([line(1)])), purpose="batch")
    made = [
        client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h").id
        for _ in range(5)
    ]
    page = client.batches.list(limit=2)
    assert [one.id for one in page.data] == made[:2:-1]
    assert page.has_more
    assert [one.id for one in client.batches.list(limit=2)] == made[::-1]
    last = client.batches.list(after=made[1])
    assert ([one.id for one in last.data], last.has_more) == (made[:1], False)
    for wrong in ({"limit": 0}, {"limit": 101}, {"after": "batch_none"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.batches.list(**wrong)
        assert refused.value.param in wrong


def test_a_server_without_a_directory_says_how_to_turn_batches_on(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        for call in (
            client.batches.list,
            client.files.list,
            lambda: client.files.create(file=b"a", purpose="batch"),
            lambda: client.batches.create(input_file_id="a", endpoint="/v1/embeddings", completion_window="24h"),
        ):
            with pytest.raises(openai.NotFoundError, match="--batch-path") as refused:
                call()
            assert refused.value.code == "batches_off"


def test_metrics_count_lines_and_their_inputs(registry, tmp_path):
    with batch_server(registry, tmp_path / "batches", keys=KEYS) as server, server.client("two") as client:
        batch = finished(client, start(client, [line(1, input=["a", "b"]), line(2, dimensions=5)]))
        with server.http("two") as http:
            page = http.get("/metrics").text
        assert 'embergem_inputs_total{key="two",model="gemma3_text"} 2.0' in page
        assert 'embergem_batch_requests_total{result="completed"} 1.0' in page
        assert 'embergem_batch_requests_total{result="failed"} 1.0' in page
        assert "embergem_stored_files 3.0" in page
        sizes = [
            client.files.retrieve(id_).bytes for id_ in (batch.input_file_id, batch.output_file_id, batch.error_file_id)
        ]
        assert f"embergem_stored_bytes {float(sum(sizes))}" in page
        assert 'embergem_unfinished_batches{status="in_progress"} 0.0' in page


def test_a_web_page_of_another_origin_changes_nothing_on_a_server_without_keys(registry, tmp_path):
    settings = msgspec.structs.replace(QUIET, cors=("https://app.example",))
    with batch_server(registry, tmp_path / "batches", settings=settings) as server, server.http() as http:
        form = {"data": {"purpose": "batch"}, "files": {"file": jsonl([line(1)])}}
        for origin, status in (("https://evil.example", 403), ("https://app.example", 200), (server.url, 200)):
            answer = http.post("/v1/files", **form, headers={"origin": origin})
            assert answer.status_code == status, answer.text
        created = {"input_file_id": answer.json()["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        refused = http.post("/v1/batches", json=created, headers={"origin": "https://evil.example"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")
        deleted = http.delete(f"/v1/files/{answer.json()['id']}", headers={"origin": "null"})
        assert deleted.status_code == 403


def test_a_server_on_its_own_is_not_touched(registry, tmp_path):
    """Without `batch_path` nothing is written."""
    with running(registry) as url:
        assert httpx.get(f"{url}/v1/models").status_code == 200
    assert list(tmp_path.iterdir()) == []
