"""The playground at `/`: its files, their headers, and `--no-ui`. `make test-browser` tries the views in a browser."""

import gzip
import hashlib
import json
import re
import subprocess
import sys
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path

import httpx
import msgspec
import pytest
from serving import QUIET, running

from embergem.config import Key
from embergem.server.api_keys import hash_key

ROOT = Path(__file__).parents[2]
UI = ROOT / "src" / "embergem" / "server" / "ui"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
BUDGET = 200_000
"""Bytes that the page may take, compressed."""


@pytest.fixture
def page(http):
    answer = http.get("/", headers=BROWSER)
    assert answer.status_code == 200
    return answer


def linked(page):
    """The addresses in the page, relative to it."""
    return re.findall(r'(?:src|href)="\./(ui/[^"]+)"', page.text)


def test_a_browser_gets_the_page_and_a_program_json(http, page):
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    assert "accept" in page.headers["vary"]
    for accept in ("*/*", "application/json"):
        answer = http.get("/", headers={"accept": accept})
        assert answer.json()["name"] == "embergem"
        assert "accept" in answer.headers["vary"]


def test_the_policy_allows_scripts_and_styles_of_this_server_only(http, page):
    for answer in (page, http.get(f"/{linked(page)[0]}")):
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["worker-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_has_no_inline_script_or_style_and_no_outside_address(page):
    assert re.findall(r"<script(?![^>]* src=)", page.text) == []
    assert "<style" not in page.text
    assert " style=" not in page.text
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml", "http://www.w3.org/1998/Math/MathML"}
    for file in UI.iterdir():
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w[\w./-]*", file.read_text()))
        # Addresses in messages and examples are text; a browser loads none of them.
        loaded = {
            one
            for one in found - names
            if re.search(rf"(?:url\(|src=|href=|import\()[\"']?{re.escape(one)}", file.read_text())
        }
        assert loaded == set(), file.name


def test_files_have_their_types_and_are_kept_for_a_year(http, page):
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    found = {file.name for file in UI.iterdir()} - {"index.html"}
    assert {path.removeprefix("ui/") for path in linked(page)} <= found
    for name in found:
        answer = http.get(f"/ui/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == types[name.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content == (UI / name).read_bytes()
        assert re.search(r"-[\w-]{8}\.", name), "the name has a hash of the content"


def test_a_file_that_the_browser_has_is_not_sent_again(http, page):
    path = f"/{linked(page)[0]}"
    for address, headers in ((path, {}), ("/", BROWSER)):
        for encoding in ("gzip", "identity"):
            first = http.get(address, headers={**headers, "accept-encoding": encoding})
            again = http.get(address, headers={**headers, "if-none-match": f'"x", {first.headers["etag"]}'})
            assert (again.status_code, again.content) == (304, b"")
            other = http.get(address, headers={**headers, "if-none-match": '"x"'})
            assert other.status_code == 200


def test_files_are_compressed_for_browsers_that_ask(http, page):
    path = f"/{linked(page)[0]}"
    with http.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
        compressed = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "accept-encoding"
    assert gzip.decompress(compressed) == http.get(path, headers={"accept-encoding": "identity"}).content


def test_the_page_is_small():
    assert sum(len(gzip.compress(file.read_bytes(), 9)) for file in UI.iterdir()) < BUDGET


@pytest.mark.parametrize(
    "path",
    [
        "/ui/../app.py", "/ui/%2e%2e/app.py", "/ui/..%2fapp.py", "/ui/..%5capp.py", "/ui//etc/passwd", "/ui/", "/ui",
        "/ui/index.html", "/ui/none.js", "/ui/%00", "/ui/.", "/ui/..", "/ui/index-00000000.js%00.svg",
    ],
)  # fmt: skip
def test_only_the_files_of_the_page_are_served(url, path):
    connection = HTTPConnection(url.removeprefix("http://"))  # httpx would resolve the dots
    connection.request("GET", path)
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    connection.close()
    assert (answer.status, error["code"]) == (404, "not_found")


def test_the_page_needs_no_key_and_the_api_does(registry):
    with (
        running(registry, QUIET, [Key(name="a", sha256=hash_key("secret"))]) as url,
        httpx.Client(base_url=url) as client,
    ):
        page = client.get("/", headers=BROWSER)
        assert page.status_code == 200
        assert client.get(f"/{linked(page)[0]}").status_code == 200
        for path in ("/v1/models", "/v1/stats"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"authorization": "Bearer secret"}).status_code == 200


def test_without_ui_there_is_no_page(registry):
    with (
        running(registry, msgspec.structs.replace(QUIET, ui=False)) as url,
        httpx.Client(base_url=url) as client,
    ):
        answer = client.get("/", headers=BROWSER)
        assert answer.json()["name"] == "embergem"
        for file in UI.iterdir():
            assert client.get(f"/ui/{file.name}").status_code == 404


def test_the_files_belong_to_the_package_and_to_the_sources():
    """`make check-web` builds them again; this needs no node."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import web
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    assert {file.name for file in files("embergem.server").joinpath("ui").iterdir()} == {
        one.name for one in UI.iterdir()
    }
    assert web.digests(UI) == json.loads((ROOT / "web" / "built.json").read_text()), "run `make web`"
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", *map(str, UI.iterdir())], cwd=ROOT, capture_output=True
    )
    assert tracked.returncode in (0, 128), tracked.stderr  # 128: this is no checkout of git


def test_stats_count_requests_tokens_and_times(http):
    before = http.get("/v1/stats").json()
    text = f"stats {hashlib.sha256(str(before).encode()).hexdigest()}"  # in no cache
    tokens = http.post("/v1/embeddings", json={"input": [text]}).json()["usage"]["total_tokens"]
    after = http.get("/v1/stats").json()
    old, new = ({model["id"]: model for model in stats["models"]}["gemma3_text"] for stats in (before, after))
    assert new["requests"] - old["requests"] == 1
    assert new["inputs"] - old["inputs"] == 1
    assert new["tokens"] - old["tokens"] == tokens
    assert new["batch_tokens"] - old["batch_tokens"] == tokens
    assert new["batches"] - old["batches"] == 1
    assert new["queue_tokens"] == 0
    assert sum(after["latency"]["counts"]) - sum(before["latency"]["counts"]) == 1
    assert len(after["latency"]["counts"]) == len(after["latency"]["bounds"]) + 1
    assert after["latency"]["seconds"] > before["latency"]["seconds"]
    assert after["uptime"] > before["uptime"] > 0
    assert after["in_flight"] >= 1
    assert after["memory_bytes"] is None or after["memory_bytes"] > 2**20


def test_models_have_their_prompts(http):
    prompts = http.get("/v1/models/default").json()["prompts"]
    assert prompts["query"] == "task: search result | query: {content}"
    assert prompts["document"] == "title: {title} | text: {content}"
    assert http.get("/v1/models/bert_mean").json()["prompts"] == {}
