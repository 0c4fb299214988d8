"""The fields and headers of `/v1/embeddings` that OpenAI's API does not have."""

import base64
import json
import re
import threading

import httpx
import numpy as np
import pytest
from serving import running

from embergem.config import Settings
from embergem.sdk.outputs import convert
from embergem.server.encode import encode_vectors
from embergem.server.routes import embeddings
from embergem.server.routes.embeddings import encode_response

TEXTS = ["What is graphene?", "a", ""]
QUERY = "task: search result | query: {content}"


def post(http, **body):
    answer = http.post("/v1/embeddings", json={"input": TEXTS, **body})
    assert answer.status_code == 200, answer.text
    return answer


def vectors(answer):
    return np.array([item["embedding"] for item in answer.json()["data"]], dtype=np.float32)


def task_and_prompt(answer):
    """Return the task and the prompt in the headers of a response."""
    return answer.headers["x-embergem-task"], json.loads(answer.headers["x-embergem-prompt"])


def test_headers_describe_space_arithmetic_task_and_prompt(http):
    answer = post(http)
    assert task_and_prompt(answer) == ("none", "{content}")
    assert answer.headers["x-embergem-dtype"] == "float32"
    space = answer.headers["x-embergem-space"]
    assert space == http.get("/v1/models/default").json()["fingerprint"]
    assert re.fullmatch("[0-9a-f]{64}", space)
    assert space != post(http, model="bert_mean").headers["x-embergem-space"]
    assert "x-embergem-truncated" not in answer.headers
    assert task_and_prompt(post(http, task="query")) == ("query", QUERY)
    assert task_and_prompt(post(http, task="document")) == ("document", "title: {title} | text: {content}")
    assert post(http, input=[5]).headers["x-embergem-prompt"] == "none"


def test_each_item_has_its_tokens_and_whether_it_was_truncated(http):
    long = "graphene " * 500
    data = post(http, input=["a", long], truncate_sequence=True).json()["data"]
    assert [item["truncated"] for item in data] == [False, True]
    assert data[1]["tokens"] == 128
    assert post(http, input=[[5] * 200], truncate_sequence=True).json()["data"][0]["tokens"] == 128


def test_a_prompt_is_put_before_each_text(http, embedder):
    answer = post(http, prompt="größe: ")
    assert np.array_equal(vectors(answer), embedder.embed([f"größe: {text}" for text in TEXTS]))
    assert task_and_prompt(answer) == ("none", "größe: {content}")


def test_a_model_name_may_end_in_a_task(http, embedder):
    expected = embedder.embed(TEXTS, task="clustering")
    for name in ("default:clustering", "gemma3_text:clustering"):
        answer = post(http, model=name)
        assert np.array_equal(vectors(answer), expected)
        assert task_and_prompt(answer)[0] == "clustering"
        assert answer.json()["model"] == name
    assert np.array_equal(vectors(post(http, model="default:clustering", task="clustering")), expected)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "default:sing"}, 404, "The tasks of the model are: classification"),
        ({"model": "bert_mean:query"}, 404, "has no tasks"),
        ({"model": "nobody:query"}, 404, "'nobody:query' is not served here"),
        ({"model": "default:query", "task": "document"}, 400, "'query' and the field `task` for 'document'"),
        ({"model": "default:query", "prompt": "x"}, 400, "not both"),
        ({"model": "default:query", "input": [5, 6]}, 400, "check_embedding_ctx_length=False"),
    ],
)
def test_a_task_in_the_model_name_that_cannot_be_applied_is_refused(http, body, status, words):
    answer = http.post("/v1/embeddings", json={"input": TEXTS, **body})
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_models_are_described_by_names_with_a_task(http):
    assert http.get("/v1/models/default:query").json()["task"] == "query"
    assert http.get("/v1/models/default").json()["task"] is None
    assert http.get("/v1/models/default:sing").status_code == 404


def test_token_ids_of_another_vocabulary_give_an_error_or_a_warning(http):
    refused = http.post("/v1/embeddings", json={"input": [9906, 1917]}).json()["error"]
    assert "tiktoken" in refused["message"]
    assert "tiktoken" in http.post("/v1/embeddings", json={"input": [0, 199_999]}).json()["error"]["message"]
    assert "tiktoken" not in http.post("/v1/embeddings", json={"input": [10**9]}).json()["error"]["message"]
    assert "No row of token ids begins with 2" in post(http, input=[[7, 8], [9]]).headers["x-embergem-warning"]
    assert "x-embergem-warning" not in post(http, input=[[2, 8, 1], [9]]).headers


def test_ignored_fields_are_named_in_a_header(http):
    answer = post(http, keep_alive=5, größe="x")
    assert answer.headers["x-embergem-ignored"] == "keep_alive,gr%C3%B6%C3%9Fe"


def test_long_headers_are_cut(http):
    """Some clients refuse headers of 8,000 bytes."""
    fields = {"🦆" * 100: 5, "é" * 300: 5}
    answer = post(http, prompt="größe 🦆 " * 500, truncate_sequence=True, **fields)
    prompt, ignored = answer.headers["x-embergem-prompt"], answer.headers["x-embergem-ignored"]
    assert len(prompt) <= 1000
    assert json.loads(prompt).startswith("größe 🦆 ")
    assert json.loads(prompt).endswith("...")
    assert len(ignored) <= 1004
    assert ignored.startswith("%F0%9F%A6%86")
    assert ignored.endswith(",...")


def test_a_large_response_is_encoded_on_another_thread(http, monkeypatch):
    threads = []

    def recorded(body, result):
        threads.append(threading.current_thread())
        return encode_response(body, result)

    monkeypatch.setattr(embeddings, "encode_response", recorded)
    small = post(http)
    monkeypatch.setattr(embeddings, "LARGE_RESPONSE", 96)
    assert post(http).json()["data"] == small.json()["data"]
    event_loop, other = threads
    assert event_loop is not other


def test_strict_refuses_unknown_fields_and_a_default_task_applies_where_possible(registry, embedder):
    with running(registry, Settings(strict=True, task="query")) as url, httpx.Client(base_url=url) as http:
        refused = http.post("/v1/embeddings", json={"input": "a", "keep_alive": 5}).json()["error"]
        assert (refused["param"], refused["code"]) == ("keep_alive", "invalid_request")
        assert "truncate_sequence" in refused["message"]
        answer = post(http)
        assert task_and_prompt(answer) == ("query", QUERY)
        assert np.array_equal(vectors(answer), embedder.embed(TEXTS, task="query"))
        assert task_and_prompt(post(http, task="clustering"))[0] == "clustering"
        assert task_and_prompt(post(http, prompt="")) == ("none", "{content}")
        assert task_and_prompt(post(http, model="bert_mean")) == ("none", "{content}")
        assert post(http, input=[2, 5, 1]).headers["x-embergem-task"] == "none"


@pytest.mark.parametrize(("dtype", "kind"), [("float16", "<f2"), ("int8", "i1"), ("binary", "u1")])
def test_smaller_encodings(http, embedder, dtype, kind):
    expected = convert(embedder.embed(TEXTS), dtype)
    numbers = post(http, encoding_dtype=dtype).json()["data"]
    assert np.array_equal([item["embedding"] for item in numbers], expected)
    packed = post(http, encoding_dtype=dtype, encoding_format="base64").json()["data"]
    found = [np.frombuffer(base64.b64decode(item["embedding"]), dtype=kind) for item in packed]
    assert np.array_equal(found, expected)


def test_int8_keeps_cosines(embedder):
    exact = embedder.embed(TEXTS)
    small = np.array(encode_vectors(exact, "int8", "float"), dtype=np.float64)
    cosines = np.sum(small * exact, axis=1) / np.linalg.norm(small, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.9999
    assert encode_vectors(np.zeros((1, 3), np.float32), "int8", "float") == [[0, 0, 0]]


def test_a_number_too_large_for_float16_is_refused():
    with pytest.raises(ValueError, match="largest float16 is 65504"):
        encode_vectors(np.array([[1e6]], np.float32), "float16", "float")
