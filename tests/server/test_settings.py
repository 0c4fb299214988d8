"""Settings with an effect on a running server: cache, memory budget, idle models, full queues, lanes of keys."""

import json
import shlex
import threading
from contextlib import contextmanager

import httpx
import msgspec
import pytest
from goldens import DATA
from serving import QUIET, configured, running, serving

from embergem.config import EmbeddingEntry, Key, Settings
from embergem.options import LoadOptions
from embergem.server.api_keys import KeyStore, hash_key
from embergem.server.build import build_state
from embergem.server.run import announce_models, make_server
from embergem.server.state import ServerState

GEMMA = EmbeddingEntry(name="gemma", options=LoadOptions(model=str(DATA / "gemma3_text")))
BERT = EmbeddingEntry(name="bert", options=LoadOptions(model=str(DATA / "bert_mean")), lazy=True)


def quiet(**changes):
    return msgspec.structs.replace(QUIET, **changes)


def embed(url, texts="a", model="default", **headers):
    return httpx.post(f"{url}/v1/embeddings", json={"input": texts, "model": model}, headers=headers, timeout=60)


@contextmanager
def served(*entries, **changes):
    with configured(*entries, settings=quiet(**changes)) as (url, registry):
        registry.wait()
        yield url, registry


def test_the_start_prints_a_command_that_can_be_pasted(registry):
    for keys, header in (((), False), ([Key(name="a", sha256=hash_key("a"))], True)):
        state, lines = ServerState(registry, QUIET, KeyStore(keys)), []
        announce_models(state, "http://127.0.0.1:9", lines.append)
        (command,) = [line for line in lines if line.startswith("  curl http://127.0.0.1:9/v1/embeddings ")]
        assert ("Authorization: Bearer $KEY" in command) == header
        assert json.loads(shlex.split(command)[-1])["model"] == "default"


def test_there_is_one_access_log(registry):
    assert not make_server(ServerState(registry, Settings(access_log="text"))).config.access_log


def test_the_cache_file_outlives_the_server(tmp_path):
    answers = []
    for texts in (["a", "b"], ["b", "c"]):
        with served(GEMMA, cache_path=str(tmp_path / "vectors"), cache_bytes=0) as (url, _):
            answers.append(embed(url, texts))
    before, after = answers
    assert "x-embergem-cached" not in before.headers
    assert after.headers["x-embergem-cached"] == "0"
    assert before.json()["data"][1]["embedding"] == after.json()["data"][0]["embedding"]


def test_models_share_the_memory_budget():
    with served(GEMMA, BERT, memory_budget=1) as (url, registry):
        assert embed(url, model="bert").status_code == 503  # the load has begun
        registry.wait()
        assert httpx.get(f"{url}/ready").json()["models"] == {"gemma": "unloaded", "bert": "loaded"}
        assert embed(url, model="bert").status_code == 200


def test_an_idle_model_is_unloaded_and_loaded_again():
    state = build_state(QUIET, [msgspec.structs.replace(GEMMA, keep_alive=0.01)], ())
    with state.registry as registry:
        registry.load("gemma")  # the first sweep finds it loaded
        with serving(state) as url:
            while httpx.get(f"{url}/ready").json()["models"] == {"gemma": "loaded"}:
                pass
            while (answer := embed(url)).status_code == 503:
                assert answer.json()["error"]["code"] == "model_loading"
                registry.wait()
            assert answer.status_code == 200


class Gate:
    """Replaces the native call of an engine, and blocks it until the gate is open."""

    def __init__(self, engine):
        self.reached, self.open = threading.Event(), threading.Event()
        self.compute, engine._loop._compute = engine._loop._compute, self

    def __call__(self, *arguments):
        self.reached.set()
        self.open.wait()
        return self.compute(*arguments)


def test_a_full_queue_gives_retry_after():
    with served(GEMMA, max_queue_tokens=10, cache_bytes=0) as (url, registry):
        gate = Gate(registry.get("gemma"))
        answers = []
        try:
            threads = [threading.Thread(target=lambda: answers.append(embed(url, "graphene")))]
            threads[0].start()
            assert gate.reached.wait(60)
            threads.append(threading.Thread(target=lambda: answers.append(embed(url, ["graphene"] * 9))))
            threads[1].start()
            while not registry.get("gemma").stats().queue_tokens["interactive"]:
                assert threads[1].is_alive()
            refused = embed(url, ["graphene"] * 9)
        finally:
            gate.open.set()
            for thread in threads:
                thread.join()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
def test_requests_of_a_key_use_its_lane(registry, lane):
    engine = registry.get("default")
    before = engine.stats().queue_rows
    with running(registry, QUIET, [Key(name="mine", sha256=hash_key("mine"), lane=lane)]) as url:
        assert embed(url, ["a", "b"], authorization="Bearer mine").status_code == 200
    after = engine.stats().queue_rows
    assert {name: after[name] - before[name] for name in after} == {"interactive": 0, "bulk": 0} | {lane: 2}
