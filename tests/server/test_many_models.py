"""Several models from a configuration: names, default tasks, and loading and unloading during requests."""

import json
import shutil
import threading
from dataclasses import replace

import ggufs
import httpx
import msgspec
import numpy as np
import pytest
from goldens import DATA, golden
from serving import QUIET, configured, running
from starlette.requests import Request as HttpRequest

from embergem import Client
from embergem.config import EmbeddingEntry, Key, Settings
from embergem.engine import Request
from embergem.errors import InvalidTask, Overloaded, UnsupportedModel
from embergem.options import LoadOptions
from embergem.registry import DEFAULT
from embergem.server.api_keys import Forbidden, hash_key
from embergem.server.auth import require_local
from embergem.server.build import build_state, model_spec

GEMMA = EmbeddingEntry(name="gemma", options=LoadOptions(model=str(DATA / "gemma3_text")), aliases=("g",), task="query")
BERT = EmbeddingEntry(name="bert", options=LoadOptions(model=str(DATA / "bert_mean")), lazy=True)


def post(url, path, body, **headers):
    return httpx.post(url + path, json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def models():
    with configured(GEMMA, BERT) as (url, registry):
        registry.wait()
        yield url, registry


def test_lazy_models_load_at_their_first_request(models):
    url, registry = models
    assert httpx.get(f"{url}/ready").json() == {"status": "ready", "models": {"gemma": "loaded", "bert": "unloaded"}}
    described = httpx.get(f"{url}/v1/models/bert").json()
    assert (described["status"], described["dimensions"]) == ("unloaded", None)
    answer = post(url, "/v1/embeddings", {"input": "a", "model": "bert"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "model_loading"
    assert int(answer.headers["retry-after"]) >= 1
    registry.wait()
    assert post(url, "/v1/embeddings", {"input": "a", "model": "bert"}).status_code == 200
    assert httpx.get(f"{url}/v1/models/bert").json()["dimensions"] == 64


def test_a_model_answers_to_each_of_its_names_with_its_default_task(models, embedder):
    url, _ = models
    expected = embedder.embed(["a"], task="query")
    for name in ("gemma", "g", DEFAULT, GEMMA.options.model, "g:query"):
        answer = post(url, "/v1/embeddings", {"input": "a", "model": name})
        assert np.array_equal(np.float32([answer.json()["data"][0]["embedding"]]), expected)
        assert answer.headers["x-embergem-task"] == "query"
    names = [model["id"] for model in httpx.get(f"{url}/v1/models?expand=names").json()["data"]]
    assert {"default", "gemma", "g", "bert", "g:document"} <= set(names)
    assert httpx.get(f"{url}/v1/models/g").json()["root"] == "gemma"


def test_each_model_is_listed_once_with_its_aliases_and_tasks(models):
    url, _ = models
    listed = {model["id"]: model for model in httpx.get(f"{url}/v1/models").json()["data"]}
    assert list(listed) == ["gemma", "bert"]
    assert listed["gemma"]["aliases"] == ["default", "g"]  # not its path
    assert "query" in listed["gemma"]["tasks"]
    wrong = httpx.get(f"{url}/v1/models?expand=all")
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"] == "expand='all' is not possible. The only value is 'names'."


def test_an_unknown_model_is_404_for_each_operation_and_in_its_description(models):
    url, _ = models
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    for action in ("load", "unload", "reload", "status"):
        path = f"/v1/models/{action}"
        assert httpx.post(url + path, json={"model_id": "nobody"}).status_code == 404
        assert {"404", "413", "503"} <= set(paths[path]["post"]["responses"])


def test_models_are_loaded_and_unloaded_by_request(models):
    url, registry = models

    def ask(action, name):
        answer = post(url, f"/v1/models/{action}", {"model_id": name})
        return answer.status_code, answer.json()["status"]

    assert ask("unload", "g") == (200, "unloaded")
    assert ask("unload", "gemma") == (200, "unloaded")
    assert ask("status", "gemma") == (200, "unloaded")
    assert ask("load", "gemma") == (200, "loaded")
    assert ask("reload", "default") == (200, "loaded")
    assert ask("status", "gemma") == (200, "loaded")
    assert ask("load", "nobody") == (404, "not_found")
    assert post(url, "/v1/models/load", {"model": "gemma"}).status_code == 400
    assert registry.default == "gemma"


def test_an_admin_request_needs_the_content_type_of_json(models):
    url, _ = models
    answer = httpx.post(f"{url}/v1/models/status", content=b'{"model_id": "gemma"}')
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_a_reload_drops_no_request(models):
    url, _ = models
    stop, found = threading.Event(), []

    def ask():
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/v1/embeddings", json={"input": "graphene", "model": "gemma"})
                found.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert post(url, "/v1/models/reload", {"model_id": "gemma"}).status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert found[0][0] == 200


def test_a_model_that_fails_its_self_check_is_not_ready(tmp_path):
    bare = shutil.copytree(DATA / "gemma3_text", tmp_path / "bare")
    chain = json.loads((bare / "modules.json").read_text())
    (bare / "modules.json").write_text(json.dumps([part for part in chain if not part["type"].endswith("Dense")]))
    entry = EmbeddingEntry(name="bare", options=LoadOptions(model=str(bare)))
    with configured(entry) as (url, registry):
        registry.wait()
        ready = httpx.get(f"{url}/ready")
        assert (ready.status_code, ready.json()["models"]) == (503, {"bare": "failed"})
        assert "dense_layers" in ready.json()["reasons"]["bare"]
        answer = post(url, "/v1/embeddings", {"input": "a"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_ready")
    allowed = replace(entry.options, allow_missing_dense=True)
    with configured(msgspec.structs.replace(entry, options=allowed)) as (
        url,
        registry,
    ):
        registry.wait()
        ready = httpx.get(f"{url}/ready")
        assert ready.status_code == 200, ready.json()


def test_a_gguf_file_takes_missing_dense_layers_from_another_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(ggufs.of_gemma(dense=None))
    shutil.copy(DATA / "gemma3_text" / "tokenizer.json", tmp_path)
    entry = EmbeddingEntry(
        name="gguf", options=LoadOptions(model=str(tmp_path / "model.gguf"), dense_from=str(DATA / "gemma3_text"))
    )
    stored = golden("gemma3_text")
    with configured(entry) as (url, registry):
        registry.wait()
        answer = post(url, "/v1/embeddings", {"input": stored.ids[0]}).json()
    assert np.abs(np.array(answer["data"][0]["embedding"]) - stored.vectors[0]).max() < 1e-6


def test_a_failed_load_is_reported_with_its_reason(tmp_path):
    (tmp_path / "config.json").write_text("{")
    broken = EmbeddingEntry(name="broken", options=LoadOptions(model=str(tmp_path)))
    with configured(GEMMA, broken) as (url, registry):
        registry.wait()
        ready = httpx.get(f"{url}/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "failed")
        assert "config.json is not valid JSON" in ready.json()["reasons"]["broken"]
        answer = post(url, "/v1/embeddings", {"input": "a", "model": "broken"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_failed")
        assert post(url, "/v1/models/load", {"model_id": "broken"}).json()["status"] == "internal_error"
        assert post(url, "/v1/embeddings", {"input": "a"}).status_code == 200


def test_only_an_admin_key_manages_models():
    keys = [Key(name="user", sha256=hash_key("user")), Key(name="root", sha256=hash_key("root"), admin=True)]
    with configured(GEMMA, keys=keys) as (url, registry):
        registry.wait()
        ask = {"model_id": "gemma"}
        assert post(url, "/v1/models/status", ask).status_code == 401
        refused = post(url, "/v1/models/status", ask, authorization="Bearer user")
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
        assert post(url, "/v1/models/status", ask, authorization="Bearer root").json()["status"] == "loaded"


def test_a_server_on_a_public_address_has_no_admin_without_keys():
    settings = Settings(log_level="critical", access_log="off", host="0.0.0.0")
    with configured(GEMMA, settings=settings) as (url, _):
        assert post(url, "/v1/models/status", {"model_id": "gemma"}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"origin": "https://app.example"}, "a web page of 'https://app.example'"),  # although CORS allows it here
        ({"origin": "null"}, "a web page of 'null'"),
        ({"host": "rebound.example:80"}, "Host header is 'rebound.example:80'"),
        ({"host": "localhost.evil.example"}, "the Host header is"),
        ({"x-forwarded-for": "203.0.113.5"}, "through a proxy"),
    ],
)
def test_without_keys_only_local_programs_manage_models(registry, headers, why):
    settings = Settings(log_level="critical", access_log="off", cors=("*",))
    with running(registry, settings) as url:
        refused = post(url, "/v1/models/status", {"model_id": "default"}, **headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_required")
        assert why in refused.json()["error"]["message"]
        own = {"origin": url}
        assert post(url, "/v1/models/status", {"model_id": "default"}, **own).status_code == 200
        assert post(url, "/v1/embeddings", {"input": "a"}, **headers).status_code == 200


def test_without_keys_an_admin_has_a_loopback_address():
    def request(peer, host="localhost:1234"):
        return HttpRequest({"type": "http", "client": (peer, 5), "headers": [(b"host", host.encode())]})

    for peer, host in (("127.0.0.1", "localhost:1234"), ("::1", "[::1]:1234"), ("127.0.0.1", "127.0.0.1")):
        require_local(request(peer, host), "127.0.0.1")
    with pytest.raises(Forbidden, match=r"comes from 192\.0\.2\.7"):
        require_local(request("192.0.2.7"), "127.0.0.1")


def test_a_model_of_another_family_than_declared_is_refused():
    entry = EmbeddingEntry(name="x", options=LoadOptions(model=GEMMA.options.model, arch="qwen3"))
    with pytest.raises(UnsupportedModel, match="is of the family 'gemma3_text', not qwen3"):
        model_spec(entry, QUIET, None).load()


@pytest.mark.parametrize(("model", "arch"), [("xlm_roberta", "roberta"), ("nomic_bert", "nomicbert")])
def test_a_family_is_accepted_by_each_of_its_names(model, arch):
    entry = EmbeddingEntry(name="x", options=LoadOptions(model=str(DATA / model), arch=arch))
    model_spec(entry, QUIET, None).load().close()


@pytest.mark.parametrize(("model", "words"), [("gemma3_text", 'no task "qurey". It has: .*query'), ("bert_mean", "")])
def test_a_model_without_its_configured_task_fails_to_load(model, words):
    entry = EmbeddingEntry(name="x", options=LoadOptions(model=str(DATA / model)), task="qurey")
    with pytest.raises(InvalidTask, match=f"says task = 'qurey'\\. This model .*{words}"):
        model_spec(entry, QUIET, None).load()


def test_a_configured_tokenizer_replaces_the_models_own():
    entry = EmbeddingEntry(
        name="x", options=LoadOptions(model=GEMMA.options.model, tokenizer=str(DATA / "bert_mean" / "tokenizer.json"))
    )
    with model_spec(entry, QUIET, None).load() as other, model_spec(GEMMA, QUIET, None).load() as own:
        different, same = (engine.prepare(Request(texts=["graphene"]))[0].ids for engine in (other, own))
        assert not np.array_equal(different, same)
        assert other.fingerprint != own.fingerprint


def test_cached_inputs_are_reported(models):
    url, _ = models
    body = {"input": ["known", "known", "new " * 3]}
    post(url, "/v1/embeddings", {"input": "known"})
    assert post(url, "/v1/embeddings", body).headers["x-embergem-cached"].startswith("0,1")


def test_a_request_timeout_is_kept(models):
    url, _ = models
    body = {"input": [f"graphene {number} " * 9 for number in range(1000)]}
    answer = post(url, "/v1/embeddings", body, **{"x-request-timeout": "0.01"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    refused = post(url, "/v1/embeddings", {"input": "a"}, **{"x-request-timeout": "soon"})
    assert (refused.status_code, "'soon'" in refused.text) == (400, True)


def test_an_overloaded_engine_gives_retry_after(models, monkeypatch):
    url, registry = models

    def full(request):
        raise Overloaded("The queue is full.", retry_after=2.1)

    monkeypatch.setattr(registry.get("gemma"), "submit", full)
    answer = post(url, "/v1/embeddings", {"input": "a", "model": "gemma"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")
    assert answer.headers["retry-after"] == "3"


def test_the_default_model_can_be_configured():
    state = build_state(Settings(default_model="bert"), (GEMMA, BERT), ())
    assert (state.registry.default, state.registry.main_name("default")) == ("bert", "bert")
    assert state.model_names()[:3] == ["default", "gemma", "bert"]


def test_a_client_waits_for_a_lazy_model(models):
    url, registry = models
    registry.wait()
    registry.unload("bert")
    with Client(url, model="bert") as client:
        assert client.dimensions == 64
    assert httpx.get(f"{url}/v1/models/bert").json()["status"] == "loaded"
