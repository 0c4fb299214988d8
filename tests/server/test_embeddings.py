"""`POST /v1/embeddings` and the operations that need no configuration, over a real socket."""

import asyncio
import base64
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
from goldens import golden

TEXTS = ["What is graphene?", "a", ""]


def post(http, **body):
    return http.post("/v1/embeddings", json=body)


def vectors(answer):
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return np.array([item["embedding"] for item in data], dtype=np.float32)


@pytest.fixture(scope="module")
def expected(embedder):
    return embedder.embed(TEXTS)


def test_a_response_has_the_form_of_openais_api(http, expected):
    answer = post(http, input=TEXTS, model="default").json()
    assert answer["object"] == "list"
    assert answer["model"] == "default"
    assert answer["data"][0]["object"] == "embedding"
    assert answer["usage"] == {"prompt_tokens": 17, "total_tokens": 17}
    found = np.array([item["embedding"] for item in answer["data"]], dtype=np.float32)
    assert np.array_equal(found, expected)


def test_the_four_forms_of_input(http, embedder):
    ids = [2, 500, 600, 1]
    assert np.array_equal(vectors(post(http, input="a text")), embedder.embed(["a text"]))
    assert np.array_equal(vectors(post(http, input=["a", "b"])), embedder.embed(["a", "b"]))
    assert np.array_equal(vectors(post(http, input=ids)), embedder.embed([ids]))
    assert np.array_equal(vectors(post(http, input=[ids, [7]])), embedder.embed([ids, [7]]))


def test_token_ids_give_the_vectors_of_the_published_library(http):
    checkpoint = golden("gemma3_text")
    assert np.abs(vectors(post(http, input=checkpoint.ids)) - checkpoint.vectors).max() < 1e-6


def test_base64_has_the_same_bits_as_float(http, expected):
    data = post(http, input=TEXTS, encoding_format="base64").json()["data"]
    found = np.stack([np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4") for item in data])
    assert np.array_equal(found, expected)


def test_dimensions_task_and_title(http, embedder):
    found = vectors(post(http, input=TEXTS, task="document", title="T", dimensions=96))
    assert np.array_equal(found, embedder.embed(TEXTS, task="document", title="T", dimensions=96))
    found = vectors(post(http, input=["a", "b"], task="document", title=["T", None]))
    assert np.array_equal(found, embedder.embed(["a", "b"], task="document", title=["T", None]))


def test_truncation_needs_permission_and_is_reported(http):
    long = "graphene " * 500
    assert post(http, input=[long]).json()["error"]["code"] == "context_length_exceeded"
    answer = post(http, input=["a", long], truncate_sequence=True)
    assert answer.headers["x-embergem-truncated"] == "1"
    assert answer.json()["usage"]["prompt_tokens"] > 128


def test_openais_client(url, expected):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="EMPTY")
    answer = client.embeddings.create(model="default", input=TEXTS)
    assert np.array_equal(np.array([item.embedding for item in answer.data], dtype=np.float32), expected)
    assert answer.usage.total_tokens == 17
    names = [model.id for model in client.models.list()]
    assert names == ["gemma3_text", "bert_mean"]
    with pytest.raises(openai.NotFoundError, match="gemma3_text"):
        client.embeddings.create(model="nonsense", input="a")
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="default", input="a", dimensions=7)
    assert refused.value.code == "invalid_dimensions"
    assert refused.value.param == "dimensions"


def test_openais_asynchronous_client(url, expected):
    async def embed_all():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="EMPTY") as client:
            answers = await asyncio.gather(
                *(client.embeddings.create(model="default", input=text) for text in TEXTS), return_exceptions=True
            )
            with pytest.raises(openai.BadRequestError, match="Choose one of: 96"):
                await client.embeddings.create(model="default", input="a", dimensions=7)
            return answers

    found = [answer.data[0].embedding for answer in asyncio.run(embed_all())]
    assert np.array_equal(np.array(found, dtype=np.float32), expected)


def test_models_are_selected_by_name(http):
    assert len(vectors(post(http, input="a", model="bert_mean"))[0]) == 64
    assert post(http, input="a", model="gemma3_text").json()["model"] == "gemma3_text"
    described = http.get("/v1/models/gemma3_text").json()
    assert described["allowed_dimensions"][0] == described["dimensions"] == 96
    assert described["max_tokens"] == 128
    assert "clustering" in described["tasks"]
    assert http.get("/v1/models/nonsense").status_code == 404


def test_health_and_ready(http):
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").json() == {"status": "ready", "models": {"gemma3_text": "loaded", "bert_mean": "loaded"}}


@pytest.mark.parametrize(
    ("body", "status", "code", "param", "words"),
    [
        ({}, 400, "invalid_request", "input", "missing"),
        ({"input": []}, 400, "empty_input", "input", "empty list"),
        ({"input": [[]]}, 400, "empty_input", "input", "Input 0"),
        ({"input": [[5], []]}, 400, "empty_input", "input", "Input 1"),
        ({"input": 5}, 400, "invalid_request", "input", "input"),
        ({"input": None}, 400, "invalid_request", "input", "input"),
        ({"input": ["a", 5]}, 400, "invalid_request", "input", r"^Input 1 is invalid: input\[1\] is 5\."),
        ({"input": [5, "a"]}, 400, "invalid_request", "input", r"^Input 0 is invalid: input\[1\] is \"a\"\."),
        ({"input": [True]}, 400, "invalid_request", "input", "true"),
        ({"input": [1.5]}, 400, "invalid_request", "input", "1.5"),
        ({"input": [[5, 99999]]}, 400, "token_out_of_range", "input", "99999"),
        ({"input": [-1]}, 400, "token_out_of_range", "input", "-1"),
        ({"input": [10**30]}, 400, "token_out_of_range", "input", "1000"),
        ({"input": "a", "model": "none"}, 404, "model_not_found", "model", "gemma3_text"),
        ({"input": "a", "model": 5}, 400, "invalid_request", "model", "str"),
        ({"input": "a", "dimensions": 1000}, 400, "invalid_dimensions", "dimensions", "96"),
        ({"input": "a", "dimensions": 0}, 400, "invalid_dimensions", "dimensions", "96"),
        ({"input": "a", "dimensions": "64"}, 400, "invalid_request", "dimensions", 'is "64", a string. Give a whole'),
        ({"input": "a", "dimensions": 2.5}, 400, "invalid_request", "dimensions", r"is 2\.5\. Give a whole number"),
        (
            {"input": "a", "encoding_format": "binary"},
            400,
            "invalid_request",
            "encoding_format",
            "encoding_dtype takes",
        ),
        ({"input": "a", "encoding_format": "flaot"}, 400, "invalid_request", "encoding_format", "Did you mean 'float'"),
        ({"input": "a", "encoding_format": "hex"}, 400, "invalid_request", "encoding_format", "hex"),
        ({"input": "a", "task": "sing"}, 400, "invalid_task", "task", "clustering"),
        ({"input": "a", "task": "query", "title": "T"}, 400, "invalid_task", "task", "document"),
        ({"input": "a", "title": "T"}, 400, "invalid_task", "task", "document"),
        ({"input": "a", "task": "document", "title": ["T", "U"]}, 400, "invalid_task", "title", "more than 1 titles"),
        ({"input": ["a", "b"], "task": "document", "title": ["T"]}, 400, "invalid_task", "title", "1 titles for 2"),
        ({"input": "a", "task": "document", "title": "x" * 4097}, 400, "invalid_request", "title", "4096"),
        ({"input": "a", "task": "document", "title": ["x" * 4097]}, 400, "invalid_request", "title", "4096"),
        ({"input": "a", "task": "document", "title": 5}, 400, "invalid_request", "title", "str"),
        (
            {"input": "a", "task": "document", "title": [5]},
            400,
            "invalid_request",
            "title",
            r"title\[0\] is a whole number\. Give a",
        ),
        ({"input": [5], "task": "query"}, 400, "invalid_task", "task", "token ids"),
        ({"input": "a", "task": "query", "model": "bert_mean"}, 400, "invalid_task", "task", "no prompts"),
        ({"input": "a", "prompt": "x", "task": "query"}, 400, "invalid_task", "prompt", "not both"),
        ({"input": [5], "prompt": "x"}, 400, "invalid_task", "prompt", "token ids"),
        ({"input": [5], "title": "x"}, 400, "invalid_task", "title", "token ids"),
        ({"input": "a", "prompt": "x" * 4097}, 400, "invalid_request", "prompt", "4096"),
        ({"input": "a", "encoding_dtype": "int4"}, 400, "invalid_request", "encoding_dtype", "int4"),
        (
            {"input": "a", "truncate_sequence": 1},
            400,
            "invalid_request",
            "truncate_sequence",
            "is 1, a whole number. Give true",
        ),
        ({"input": ["a"] * 2049}, 400, "invalid_request", "input", "more than 2048"),
        ({"input": {"a": 5}}, 400, "invalid_request", "input", "a list of strings"),
        ({"input": [[5], [True]]}, 400, "invalid_request", "input", r"input\[1\]\[0\] is true"),
        ({"input": "a", "dimension": 64}, 400, "invalid_request", "dimension", "Did you mean 'dimensions'"),
    ],
)
def test_errors_name_the_field_and_the_value(http, body, status, code, param, words):
    answer = post(http, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    assert error["type"] == "invalid_request_error"
    assert re.search(words, error["message"]), error["message"]
    assert post(http, input="a").status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'"text"', b"[" * 100_000, b'{"input": NaN}'])
def test_a_body_that_is_not_a_json_object_is_refused(http, body):
    answer = http.post("/v1/embeddings", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_lone_surrogate_is_refused(http):
    answer = http.post("/v1/embeddings", content=rb'{"input": "a\ud800b"}')
    assert answer.status_code == 400


def test_a_body_over_the_limit_is_refused(http):
    answer = http.post("/v1/embeddings", content=b"x" * (51 * 2**20))
    assert answer.json()["error"]["code"] == "body_too_large"
    assert answer.status_code == 413


def test_unknown_paths_and_methods_are_refused(http):
    assert http.get("/v2/nothing").json()["error"]["code"] == "not_found"
    answer = http.get("/v1/embeddings")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_every_response_has_a_request_id(http):
    assert http.get("/health", headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"
    assert len(http.get("/health").headers["x-request-id"]) == 32


def test_concurrent_clients_get_their_own_vectors(http, embedder):
    texts = [f"text {number}" for number in range(60)]
    expected = embedder.embed(texts)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda text: post(http, input=text), texts))
    found = np.concatenate([vectors(answer) for answer in answers])
    assert np.array_equal(found, expected)


def test_the_server_goes_on_after_clients_disconnect(http, url):
    body = json.dumps({"input": ["graphene " * 40] * 200}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    host, port = url.removeprefix("http://").split(":")
    for _ in range(5):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + body)
    assert post(http, input="a").status_code == 200
