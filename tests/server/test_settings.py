"""Settings that only a running server shows: cache, memory, idle models, full queues, lanes of keys."""

import threading
from contextlib import contextmanager

import httpx
import msgspec
import pytest
from goldens import DATA
from serving import QUIET, configured, running, serving

from embergem.config import EmbeddingEntry, Key
from embergem.options import LoadOptions
from embergem.server.api_keys import hash_key
from embergem.server.build import build_state

GEMMA = EmbeddingEntry(name="gemma", options=LoadOptions(model=str(DATA / "gemma3_text")))
BERT = EmbeddingEntry(name="bert", options=LoadOptions(model=str(DATA / "bert_mean")), lazy=True)


def quiet(**changes):
    return msgspec.structs.replace(QUIET, **changes)


def ask(url, texts="a", model="default", **headers):
    return httpx.post(f"{url}/v1/embeddings", json={"input": texts, "model": model}, headers=headers, timeout=60)


@contextmanager
def served(*entries, **changes):
    with configured(*entries, settings=quiet(**changes)) as (url, registry):
        registry.wait()
        yield url, registry


def test_what_was_computed_outlives_the_server(tmp_path):
    answers = []
    for texts in (["a", "b"], ["b", "c"]):
        with served(GEMMA, cache_path=str(tmp_path / "vectors"), cache_bytes=0) as (url, _):
            answers.append(ask(url, texts))
    before, after = answers
    assert "x-embergem-cached" not in before.headers
    assert after.headers["x-embergem-cached"] == "0"
    assert before.json()["data"][1]["embedding"] == after.json()["data"][0]["embedding"]


def test_models_share_the_memory_that_there_is():
    with served(GEMMA, BERT, memory_budget=1) as (url, registry):
        assert ask(url, model="bert").status_code == 503  # its load has begun
        registry.wait()
        assert httpx.get(f"{url}/ready").json()["models"] == {"gemma": "unloaded", "bert": "loaded"}
        assert ask(url, model="bert").status_code == 200


def test_an_idle_model_goes_and_comes_back():
    service = build_state(QUIET, [msgspec.structs.replace(GEMMA, keep_alive=0.01)], ())
    with service.registry as registry:
        registry.load("gemma")  # so that the first sweep finds it
        with serving(service) as url:
            while httpx.get(f"{url}/ready").json()["models"] == {"gemma": "loaded"}:
                pass
            while (answer := ask(url)).status_code == 503:
                assert answer.json()["error"]["code"] == "model_loading"
                registry.wait()
            assert answer.status_code == 200


class Held:
    """Stands before an engine's executor, and lets nothing pass before it is opened."""

    def __init__(self, engine):
        self.begun, self.opened = threading.Event(), threading.Event()
        self.compute, engine._loop._compute = engine._loop._compute, self

    def __call__(self, *arguments):
        self.begun.set()
        self.opened.wait()
        return self.compute(*arguments)


def test_a_full_queue_is_told_with_when_to_come_back():
    with served(GEMMA, max_queue_tokens=10, cache_bytes=0) as (url, registry):
        held = Held(registry.get("gemma"))
        answers = []
        try:
            threads = [threading.Thread(target=lambda: answers.append(ask(url, "graphene")))]
            threads[0].start()
            assert held.begun.wait(60)
            threads.append(threading.Thread(target=lambda: answers.append(ask(url, ["graphene"] * 9))))
            threads[1].start()
            while not registry.get("gemma").stats().queue_tokens["interactive"]:
                assert threads[1].is_alive()
            refused = ask(url, ["graphene"] * 9)
        finally:
            held.opened.set()
            for thread in threads:
                thread.join()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_a_key_has_its_lane(registry, lane):
    engine = registry.get("default")
    before = engine.stats().queue_rows
    with running(registry, QUIET, [Key(name="mine", sha256=hash_key("mine"), lane=lane)]) as url:
        assert ask(url, ["a", "b"], authorization="Bearer mine").status_code == 200
    after = engine.stats().queue_rows
    assert {name: after[name] - before[name] for name in after} == {"interactive": 0, "bulk": 0} | {lane: 2}
