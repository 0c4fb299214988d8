"""Clients whose keys are not admin keys see no path of the server: not in lists, not in answers, not in errors."""

import json
import shutil

import httpx
import pytest
from goldens import DATA
from serving import QUIET, configured

from embergem import errors
from embergem.config import EmbeddingEntry, Key
from embergem.errors import EmbergemError, LoadError
from embergem.options import LoadOptions
from embergem.registry import Registry
from embergem.server.api_keys import hash_key
from embergem.server.app import OPERATIONS
from embergem.server.errors import ABOUT_FILES

KEYS = [Key(name="user", sha256=hash_key("user")), Key(name="ops", sha256=hash_key("ops"), admin=True)]
USER = {"authorization": "Bearer user"}
ADMIN = {"authorization": "Bearer ops"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A server of local models, some of which cannot be loaded; yields its address and the parts of their paths."""
    directory = tmp_path_factory.mktemp("private-place")
    for name in ("good", "broken", "headless"):
        shutil.copytree(DATA / "gemma3_text", directory / name)
    (directory / "broken" / "config.json").write_text("{")
    (directory / "headless" / "tokenizer.json").unlink()
    entries = [
        EmbeddingEntry(name=name, options=LoadOptions(model=str(directory / name)))
        for name in ("good", "broken", "headless", "missing")
    ]
    entries.append(
        EmbeddingEntry(
            name="tokenless",
            options=LoadOptions(model=str(directory / "good"), tokenizer=str(directory / "none.json")),
            lazy=True,
        )
    )
    with configured(*entries, keys=KEYS) as (url, registry):
        registry.wait()
        yield url, directory


def bodies():
    """Yield bodies of requests, right ones and wrong ones."""
    for name in (
        "default",
        "good",
        "broken",
        "headless",
        "missing",
        "tokenless",
        "unknown",
        "good:query",
        "good:qurey",
    ):
        yield {"model": name, "input": "a", "model_id": name}
    for fields in ({"input": []}, {"input": [999999999]}, {"input": "a " * 5000}, {"dimensions": 5}, {"title": "a"}):
        yield {"model": "good", "input": "a", **fields}


def requests():
    """Yield (method, path, body) for every operation."""
    names = ["default", "good", "broken", "headless", "missing", "tokenless", "unknown", "good:query", "good:qurey"]
    for one in OPERATIONS:
        for name in names if "{name:path}" in one.path else [""]:
            for body in bodies() if one.method == "POST" else [None]:
                yield one.method, one.path.replace("{name:path}", name), body
    yield "GET", "/v1/models?expand=names", None


def test_no_answer_names_a_path(models):
    url, directory = models
    paths = {str(directory), "private-place", str(DATA)}
    seen = set()
    with httpx.Client(base_url=url, headers=USER, timeout=60) as client:
        for method, path, body in requests():
            found = client.request(method, path, json=body)
            seen.add(found.status_code)
            shown = found.text + json.dumps(dict(found.headers))
            assert not [one for one in paths if one in shown], (method, path, body, found.text)
    assert {200, 400, 403, 404, 503} <= seen


def test_a_model_answers_to_its_path_although_no_list_has_it(models):
    url, directory = models
    for name in (str(directory / "good"), f"{directory / 'good'}:query"):
        found = httpx.post(f"{url}/v1/embeddings", json={"input": "a", "model": name}, headers=USER, timeout=60)
        assert (found.status_code, found.json()["model"]) == (200, name)
    for query in ("", "?expand=names"):
        listed = httpx.get(f"{url}/v1/models{query}", headers=ADMIN).json()["data"]
        assert not [model for model in listed if str(directory) in f"{model['id']} {model['aliases']}"]


def test_the_first_of_two_models_with_one_path_answers_to_it():
    place = str(DATA / "gemma3_text")
    entries = [
        EmbeddingEntry(name=name, options=LoadOptions(model=place), task=task)
        for name, task in (("first", "query"), ("second", "document"))
    ]
    with configured(*entries, keys=KEYS) as (url, registry):
        registry.wait()
        for name, task in ((place, "query"), ("second", "document")):
            found = httpx.post(f"{url}/v1/embeddings", json={"input": "a", "model": name}, headers=USER, timeout=60)
            assert (found.status_code, found.headers["x-embergem-task"]) == (200, task)


def test_an_admin_learns_why_a_model_failed(models):
    url, directory = models
    ask = {"model_id": "broken"}
    answer = httpx.post(f"{url}/v1/models/status", json=ask, headers=ADMIN)
    assert str(directory / "broken" / "config.json") in answer.json()["error"]["message"]
    assert str(directory) in httpx.get(f"{url}/v1/models/broken", headers=ADMIN).json()["reason"]
    refused = httpx.post(f"{url}/v1/embeddings", json={"input": "a", "model": "broken"}, headers=ADMIN).json()["error"]
    assert str(directory) in refused["message"]
    hidden = httpx.post(f"{url}/v1/embeddings", json={"input": "a", "model": "broken"}, headers=USER).json()["error"]
    assert (hidden["code"], hidden["param"]) == (refused["code"], refused["param"])
    assert "log of the server has the reason" in hidden["message"]


LOADING = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, EmbergemError) and (issubclass(one, LoadError) or one in ABOUT_FILES)
]


@pytest.mark.parametrize("kind", LOADING)
def test_no_error_about_files_reaches_a_client_with_its_message(models, monkeypatch, kind):
    url, _ = models

    def acquire(registry, name, wait=True):
        raise kind("/private-place/model.safetensors is damaged.", param="model")

    monkeypatch.setattr(Registry, "acquire", acquire)
    for path in ("embeddings", "tokenize"):
        found = httpx.post(f"{url}/v1/{path}", json={"input": "a"}, headers=USER)
        assert (found.status_code, found.json()["error"]["code"]) == (kind.status, kind.code)
        assert "private-place" not in found.text
        assert "private-place" in httpx.post(f"{url}/v1/{path}", json={"input": "a"}, headers=ADMIN).text


def test_the_log_has_the_reason(models, monkeypatch, caplog):
    url, _ = models

    def acquire(registry, name, wait=True):
        raise errors.ModelFailed("/private-place/model.safetensors is damaged.")

    monkeypatch.setattr(Registry, "acquire", acquire)
    with caplog.at_level("ERROR", "embergem.server"):
        httpx.post(f"{url}/v1/embeddings", json={"input": "a"}, headers=USER)
    assert "/private-place/model.safetensors is damaged." in caplog.text
    assert QUIET.access_log == "off"
