"""Monitoring and documentation: OpenAPI, `/docs`, metrics, the access log, tokenizing, CORS."""

import json
import logging
import re
import socket

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import running

from embergem.config import Settings
from embergem.server.app import OPERATIONS


@pytest.fixture
def logged(caplog):
    """Lines of the access log so far."""
    logging.getLogger("embergem.access").setLevel(logging.INFO)
    with caplog.at_level(logging.INFO, logger="embergem.access"):
        yield lambda: [record.message for record in caplog.records if record.name == "embergem.access"]


def test_the_openapi_document_has_every_operation_and_schema(http):
    api = http.get("/openapi.json").json()
    assert api["openapi"] == "3.1.0"
    found = {(method.upper(), path) for path, methods in api["paths"].items() for method in methods}
    assert found == {(one.method, one.path.replace(":path", "")) for one in OPERATIONS}
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(api)):
        assert name in api["components"]["schemas"]
    body = api["components"]["schemas"]["EmbeddingsRequest"]
    assert len(body["properties"]["input"]["anyOf"]) == 4
    assert body["required"] == ["input"]
    for operation in OPERATIONS:
        assert (operation.handler.__doc__ or "").strip().split("\n")[0].endswith(".")


def test_the_docs_page_loads_no_other_files(http):
    answer = http.get("/docs")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in answer.text
    assert not re.findall(r'(?:src|href)="(?!openapi\.json|#)', answer.text)
    assert "encoding_dtype" in answer.text


def test_metrics_count_requests(registry):
    engine = registry.peek("gemma3_text")
    with running(registry, Settings(log_level="error", access_log="off")) as url, httpx.Client(base_url=url) as http:
        http.post("/v1/embeddings", json={"input": ["a", "graphene " * 500], "truncate_sequence": True})
        http.post("/v1/embeddings", json={"input": "a", "model": "none"})
        http.get("/nothing/here")
        answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(value for value in sample.labels.values() if value)): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["embergem_http_requests_total", "/v1/embeddings", "200", "POST", "gemma3_text"] == 1
    assert samples["embergem_http_requests_total", "/v1/embeddings", "404", "POST", "model_not_found"] == 1
    assert samples["embergem_http_requests_total", "404", "GET", "not_found", "other"] == 1
    assert samples["embergem_truncated_inputs_total", "gemma3_text"] == 1
    assert samples["embergem_inputs_total", "gemma3_text"] == 2
    assert samples["embergem_tokens_total", "gemma3_text"] > 128
    assert samples["embergem_http_request_seconds_count", "/v1/embeddings"] == 2
    assert samples["embergem_model_loaded", "bert_mean"] == 1
    labels = (engine.dtype, engine.fingerprint, engine.instruction_set, "gemma3_text")
    assert samples["embergem_model_info", *sorted(labels)] == 1
    assert samples["embergem_engine_rows_total", "gemma3_text"] >= 2
    assert samples["embergem_queue_tokens", "gemma3_text", "interactive"] == 0
    assert samples["process_resident_memory_bytes",] > 0


def test_the_access_log_has_no_text_unless_asked(registry, logged):
    with running(registry, Settings(log_level="error")) as url:
        httpx.post(f"{url}/v1/embeddings", json={"input": "a s3cret"}, headers={"x-request-id": "my id"})
        httpx.get(f"{url}/a=b%0Aid=7")
    first, second = logged()
    assert "s3cret" not in first
    assert 'id="my id"' in first
    assert re.search(r"status=200 ms=[\d.]+ bytes=\d+ model=gemma3_text inputs=1 tokens=\d+$", first)
    assert r'path="/a=b\nid=7"' in second
    assert "\n" not in second


def test_the_access_log_as_json(registry, logged):
    with running(registry, Settings(log_level="error", access_log="json", log_inputs=True)) as url:
        httpx.post(f"{url}/v1/embeddings", json={"input": "a s3cret"})
        httpx.post(f"{url}/v1/embeddings", json={"input": "a", "task": "sing"})
    first, second = map(json.loads, logged())
    assert first["texts"] == ["a s3cret"]
    assert (second["status"], second["code"]) == (400, "invalid_task")


def test_a_rejected_connection_is_logged_and_counted(registry, logged):
    with running(registry, Settings(log_level="critical")) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"no HTTP\r\n\r\n")
            while connection.recv(1000):
                pass
        page = httpx.get(f"{url}/metrics").text
    assert re.search(r"client=127.0.0.1 method=- path=- status=400 .*code=invalid_http", logged()[0])
    assert re.search(r'embergem_http_requests_total\{code="invalid_http",.*status="400"\} 1.0', page)


def test_tokenize_returns_ids_and_counts(http):
    answer = http.post("/v1/tokenize", json={"input": ["a", "graphene " * 500], "task": "query"}).json()
    assert (answer["max_tokens"], answer["model"]) == (128, "default")
    short, long = answer["data"]
    assert (short["count"], short["truncated"]) == (len(short["ids"]), False)
    assert len(long["ids"]) == 128 < long["count"]
    assert long["truncated"]
    assert http.post("/v1/tokenize", json={"input": "a", "dimensions": 5}).headers["x-embergem-ignored"] == "dimensions"
    embedded = http.post("/v1/embeddings", json={"input": "a", "task": "query"}).json()
    assert embedded["usage"]["prompt_tokens"] == short["count"]
    assert http.post("/v1/tokenize", json={"input": [9906]}).json()["error"]["code"] == "token_out_of_range"


def test_tokenizing_has_a_deadline(http):
    late = http.post("/v1/tokenize", json={"input": ["graphene " * 5000] * 20}, headers={"x-request-timeout": "1e-6"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_cors_allows_only_the_configured_origins(registry, http):
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in http.options("/v1/embeddings", headers=headers).headers
    with running(registry, Settings(log_level="error", access_log="off", cors=("https://app.example",))) as url:
        answer = httpx.options(f"{url}/v1/embeddings", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        other = httpx.options(f"{url}/v1/embeddings", headers=headers | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
