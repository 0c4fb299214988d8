"""`/v1/files`: uploads of every form and size, lists, contents, expiry and limits."""

import gzip
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import openai
import pytest
from batching import Clock, batch_server, contents, error, finished, jsonl, line, start
from serving import QUIET

from embergem.config import Key
from embergem.server.api_keys import hash_key
from embergem.server.batches import batch_index, batch_service, batch_store, upload

CONTENT = jsonl([line(1)])
FORM = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", CONTENT)}}


@pytest.fixture
def server(registry, tmp_path):
    with batch_server(registry, tmp_path / "batches") as found:
        yield found


@pytest.fixture
def client(server):
    with server.client() as found:
        yield found


@pytest.fixture
def http(server):
    with server.http() as found:
        yield found


def test_a_file_is_uploaded_described_read_and_deleted(server, client):
    file = client.files.create(file=("größe.jsonl", CONTENT), purpose="batch")
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(CONTENT), "größe.jsonl", "batch")
    assert (file.status, file.status_details) == ("processed", None)
    assert file.expires_at == file.created_at + 30 * 24 * 3600
    assert client.files.retrieve(file.id) == file
    answer = client.files.with_raw_response.content(file.id)
    assert answer.content == CONTENT
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.jsonl"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert contents(server) == [file.id]
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    assert contents(server) == []
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="does not exist") as refused:
            call(file.id)
        assert refused.value.code == "file_not_found"
    assert server.store.totals() == (0, 0)


def test_a_client_chooses_when_a_file_expires(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_service, "TICK_SECONDS", 0.01)
    clock = Clock()
    with batch_server(registry, tmp_path / "batches", now=clock) as server, server.client() as client:
        hour, month = (
            client.files.create(
                file=("a", CONTENT), purpose="batch", expires_after={"anchor": "created_at", "seconds": seconds}
            )
            for seconds in (3600, 30 * 24 * 3600)
        )
        assert (hour.created_at, hour.expires_at) == (1_800_000_000, 1_800_003_600)
        clock.now += 3600
        while [file.id for file in client.files.list()] != [month.id]:
            threading.Event().wait(0.01)
        assert contents(server) == [month.id]
        batch = start(client, [line(1)], output_expires_after={"anchor": "created_at", "seconds": 3600})
        output = client.files.retrieve(finished(client, batch).output_file_id)
        assert output.expires_at == output.created_at + 3600
        clock.now += 30 * 24 * 3600
        while list(client.files.list()) or list(client.batches.list()):
            threading.Event().wait(0.01)
        assert contents(server) == []


def test_a_shorter_retention_of_the_server_wins(registry, tmp_path):
    settings = msgspec.structs.replace(QUIET, batch_retention=100)
    with batch_server(registry, tmp_path / "batches", settings=settings) as server, server.client() as client:
        file = client.files.create(file=("a", CONTENT), purpose="batch")
        assert file.expires_at == file.created_at + 100


@pytest.mark.parametrize(
    ("data", "files", "param", "words"),
    [
        ({}, {"file": b"a"}, "purpose", "missing"),
        ({"purpose": "fine-tune"}, {"file": b"a"}, "purpose", "purpose=batch"),
        ({"purpose": "batch"}, {"other": b"a"}, "file", "missing"),
        ({"purpose": "batch"}, {"file": b""}, "file", "empty"),
        ({"purpose": "batch"}, {"file": b"a", "more": b"b"}, None, "1024 bytes|more than"),
        ({"purpose": "batch", "expires_after[seconds]": "60"}, {"file": b"a"}, "expires_after", "created_at"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, {"file": b"a"}, "expires_after", "3600"),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "59.5"},
            {"file": b"a"},
            "expires_after",
            "3600",
        ),
        (
            {"purpose": "batch", "expires_after": '{"seconds": 3600}'},
            {"file": b"a"},
            "expires_after",
            "expires_after[a",
        ),
        ({"purpos": "batch"}, {"file": b"a"}, "purpos", "Did you mean 'purpose'"),
    ],
)
def test_a_wrong_form_is_refused(server, http, data, files, param, words):
    if "more" in files:
        data = {**data, "note": "x" * 2000}
    answer = http.post("/v1/files", data=data, files=files)
    assert error(answer) == (400, "invalid_request", param)
    assert any(word in answer.text for word in words.split("|"))
    assert contents(server) == []
    assert server.store.totals() == (0, 0)


BODY = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nabc\r\n'
HEADERS = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (BODY + FILE, HEADERS, "last boundary"),
        (BODY + FILE + FILE + b"--b--\r\n", HEADERS, "two fields 'file'"),
        (BODY + b"--b\r\nX: y\r\n\r\nabc\r\n--b--\r\n", HEADERS, "has no name"),
        (BODY + b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--\r\n", HEADERS, "has no name"),
        (BODY + b"--b\r\nX: " + b"y" * 10**5 + b"\r\n\r\n", HEADERS, "header size"),  # python-multipart >= 0.0.27
        (b"no form", HEADERS, "not a form"),
        (b"{}", {"content-type": "application/json"}, "Send a form"),
        (BODY, {"content-type": "multipart/form-data"}, "Send a form"),
        (BODY, {"content-type": f"multipart/form-data; boundary={'b' * 300}"}, "boundary"),
        (
            b"".join(f'--b\r\nContent-Disposition: form-data; name="f{n}"\r\n\r\nx\r\n'.encode() for n in range(20))
            + FILE + b"--b--\r\n", HEADERS, "more than 16 fields",
        ),
        (BODY + FILE + b"--b--\r\n", HEADERS | {"content-encoding": "gzip"}, "Content-Encoding"),
        (b"", HEADERS, "last boundary"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(server, http, body, headers, words):
    answer = http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert contents(server) == []


def test_the_fields_of_a_form_may_come_in_any_order_and_compressed(http):
    body = FILE + BODY + b"--b--\r\n"
    plain = http.post("/v1/files", content=body, headers=HEADERS)
    small = http.post("/v1/files", content=gzip.compress(body), headers=HEADERS | {"content-encoding": "gzip"})
    for answer in (plain, small):
        assert (answer.status_code, answer.json()["bytes"], answer.json()["filename"]) == (200, 3, "x")
        assert http.get(f"/v1/files/{answer.json()['id']}/content").content == b"abc"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00b\nc\u202e", "x" * 1000, "/", '"; x="'])
def test_the_name_of_a_file_is_only_text(server, http, name):
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\nabc\r\n'
    escaped = name.replace('"', "%22").replace("\n", "%0A").replace("\x00", "\x01").encode()
    answer = http.post("/v1/files", content=BODY + form % escaped + b"--b--\r\n", headers=HEADERS)
    assert answer.status_code == 200, answer.text
    file = answer.json()
    assert contents(server) == [file["id"]]
    assert len(file["filename"]) <= 255
    assert all(character.isprintable() for character in file["filename"].replace("\u202e", ""))
    assert http.get(f"/v1/files/{file['id']}/content").headers["content-disposition"].isascii()


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_over_the_limit_is_refused_before_it_is_read_whole(registry, tmp_path, monkeypatch, declared):
    monkeypatch.setattr(upload, "BLOCK", 1000)
    settings = msgspec.structs.replace(QUIET, batch_file_bytes=10_000)
    with batch_server(registry, tmp_path / "batches", settings=settings) as server, server.http() as http:
        body = BODY + FILE.replace(b"abc", b"x" * 10_000) + b"--b--\r\n"
        assert http.post("/v1/files", content=body, headers=HEADERS).json()["bytes"] == 10_000
        large = BODY + FILE.replace(b"abc", b"x" * 10_001) + b"--b--\r\n"
        if declared:
            large += b"x" * 100_000
        answer = http.post("/v1/files", content=large if declared else iter([large]), headers=HEADERS)
        assert error(answer) == (413, "file_too_large", "file")
        assert "10,000 bytes" in answer.text
        endless = http.post(
            "/v1/files",
            content=gzip.compress(BODY + b"\r\n" * 1_000_000),
            headers=HEADERS | {"content-encoding": "gzip"},
        )
        assert endless.status_code in (400, 413)
        assert len(contents(server)) == 1


def test_a_client_that_hangs_up_leaves_nothing(server):
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port)) as connection:
        body = BODY + FILE.replace(b"abc", b"x" * 2_000_000)
        head = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['content-type']}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body) + 1000}\r\n\r\n".encode() + body)
        while not contents(server):
            threading.Event().wait(0.01)
    while contents(server) or server.store.totals() != (0, 0):
        threading.Event().wait(0.01)


@pytest.mark.parametrize(("piece", "status"), [(50_000, 200), (10, 408)])
def test_an_upload_may_take_longer_than_other_requests_if_it_arrives_fast_enough(registry, tmp_path, piece, status):
    settings = msgspec.structs.replace(QUIET, receive_timeout=0.5)
    with batch_server(registry, tmp_path / "batches", settings=settings) as server:

        def pieces():
            yield BODY + FILE.removesuffix(b"\r\n")
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                yield b"x" * piece
                threading.Event().wait(0.02)
            yield b"\r\n--b--\r\n"

        with server.http() as http:
            try:
                assert http.post("/v1/files", content=pieces(), headers=HEADERS).status_code == status
            except httpx.WriteError:  # the server has closed the connection, and the response was lost with it
                assert status == 408
        while status != 200 and contents(server):
            threading.Event().wait(0.01)


def test_many_uploads_at_the_same_time_keep_to_the_bytes_of_their_key(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "BLOCK", 2000)
    keys = [
        Key(name="one", sha256=hash_key("one"), batch_bytes=100_000),
        Key(name="two", sha256=hash_key("two")),
    ]
    with (
        batch_server(registry, tmp_path / "batches", keys=keys) as server,
        server.http("one") as one,
        server.http("two") as two,
        ThreadPoolExecutor(12) as pool,
    ):
        form = {"data": {"purpose": "batch"}, "files": {"file": ("a", b"x" * 30_000)}}
        answers = list(pool.map(lambda number: (two if number % 3 else one).post("/v1/files", **form), range(24)))
        refused = [answer for answer in answers if answer.status_code != 200]
        stored = one.get("/v1/files").json()["data"]
        assert 1 <= len(stored) <= 3
        assert len(refused) == 8 - len(stored)
        assert {error(answer)[:2] for answer in refused} == {(403, "quota_exceeded")}
        assert len(two.get("/v1/files").json()["data"]) == 16
        assert server.store.used("one") == 30_000 * len(stored)
        for file in stored:
            one.delete(f"/v1/files/{file['id']}")
        assert one.post("/v1/files", **form).status_code == 200
        assert len(contents(server)) == 17


def test_a_disk_that_does_not_answer_delays_no_other_request(server, http):
    """Neither the event loop nor the threads of other requests wait for it."""
    with server.http() as other, ThreadPoolExecutor(41) as pool, server.store._lock:  # as while a transaction commits
        uploads = [pool.submit(http.post, "/v1/files", **FORM) for _ in range(40)]
        wrong = pool.submit(other.post, "/v1/files", data={"purpose": "batch"}, files={"other": b"a"})
        while len(contents(server)) < 6:
            threading.Event().wait(0.01)
        texts = [f"text {number}" for number in range(400)]  # so many vectors are encoded on a thread
        answer = http.post("/v1/embeddings", json={"input": texts}, timeout=20)
        assert (answer.status_code, len(answer.json()["data"])) == (200, 400)
        assert not any(upload.done() for upload in uploads)
    assert {upload.result().status_code for upload in uploads} == {200}
    assert wrong.result().status_code == 400


def test_a_key_may_have_so_many_files(server, http, monkeypatch):
    monkeypatch.setattr(batch_store, "MAX_FILES", 3)
    for _ in range(3):
        assert http.post("/v1/files", **FORM).status_code == 200
    assert error(http.post("/v1/files", **FORM)) == (403, "quota_exceeded", None)
    created = {
        "input_file_id": http.get("/v1/files").json()["first_id"],
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
    }
    assert error(http.post("/v1/batches", json=created)) == (403, "quota_exceeded", None)


def test_files_are_listed_in_pages(client):
    made = [client.files.create(file=(f"{n}", CONTENT), purpose="batch").id for n in range(4)]
    assert [file.id for file in client.files.list(order="asc")] == made
    assert [file.id for file in client.files.list()] == made[::-1]
    page = client.files.list(limit=3, order="asc")
    assert ([file.id for file in page.data], page.has_more) == (made[:3], True)
    assert (page.first_id, page.last_id) == (made[0], made[2])
    assert [file.id for file in page] == made  # the client asks for the next page
    batch = finished(client, client.batches.create(
        input_file_id=made[0], endpoint="/v1/embeddings", completion_window="24h"))  # fmt: skip
    assert [file.id for file in client.files.list(purpose="batch_output")] == [batch.output_file_id]
    assert [file.id for file in client.files.list(purpose="vision")] == []
    for wrong in ({"limit": 10_001}, {"order": "up"}, {"after": "file-none"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.list(**wrong)
        assert refused.value.param in wrong


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_client_deletes_files_while_it_lists_them(registry, tmp_path, order, monkeypatch):
    monkeypatch.setattr(batch_index, "KEPT_PLACES", 3)
    keys = [Key(name=name, sha256=hash_key(name)) for name in ("mine", "other")]
    with batch_server(registry, tmp_path / "batches", keys=keys) as server, server.client("mine") as client:
        uploaded = {client.files.create(file=("a", CONTENT), purpose="batch").id for _ in range(7)}
        deleted = [client.files.delete(file.id).id for file in client.files.list(limit=2, order=order)]
        assert (len(deleted), set(deleted), list(client.files.list())) == (7, uploaded, [])
        assert client.files.list(after=deleted[-1]).data == []
        with pytest.raises(openai.BadRequestError, match="none of your files"):
            client.files.list(after=deleted[0])  # forgotten
        with server.client("other") as other, pytest.raises(openai.BadRequestError, match="none of your files"):
            other.files.list(after=deleted[-1])


def test_the_input_of_an_unfinished_batch_cannot_be_deleted_and_does_not_expire(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_service, "TICK_SECONDS", 0.01)
    clock = Clock()
    go = threading.Event()
    engine = registry.peek("gemma3_text")
    submit = engine.submit
    monkeypatch.setattr(engine, "submit", lambda *given: go.wait(30) and submit(*given))
    with batch_server(registry, tmp_path / "batches", now=clock) as server, server.client() as client:
        expiring = {"anchor": "created_at", "seconds": 3600}
        file = client.files.create(file=("a", CONTENT), purpose="batch", expires_after=expiring)
        other = client.files.create(file=("a", CONTENT), purpose="batch", expires_after=expiring)
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        with pytest.raises(openai.BadRequestError, match=f"input of {batch.id}") as refused:
            client.files.delete(file.id)
        assert refused.value.code == "file_in_use"
        clock.now += 7200
        go.set()
        assert finished(client, batch).status == "completed"
        while {one.id for one in client.files.list()} & {file.id, other.id}:
            threading.Event().wait(0.01)
