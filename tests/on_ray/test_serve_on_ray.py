"""The application of Ray Serve gives the answers of a single server, to the bit."""

import httpx
import pytest
from serving import configured, free_port

from embergem.config import EmbeddingEntry
from embergem.errors import InvalidConfig
from embergem.options import LoadOptions

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
"""Ray and its libraries warn."""

BODIES = [
    {"input": ["What is graphene?", "apples"], "encoding_format": "base64"},
    {"input": "a", "task": "query", "dimensions": 96},
    {"input": ""},
    {"input": ["graphene " * 500]},
    {"input": "a", "no_such_field": 1, "model": "nowhere"},
]


@pytest.fixture
def connected(nodes):
    """Ray, connected to the two nodes."""
    import ray

    ray.init(address=nodes.address, logging_level="warning")
    try:
        yield
    finally:
        ray.shutdown()


def test_answers_are_those_of_a_single_server(connected, tiny):
    from ray import serve

    from embergem.ray.app import build

    entry = EmbeddingEntry(name="gemma3_text", options=LoadOptions(model=str(tiny)))
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
    try:
        serve.run(build({"model": str(tiny), "num_cpus": 1, "max_replicas": 2}), route_prefix="/")
        url = f"http://127.0.0.1:{port}"
        with configured(entry) as (single, _):
            for body in BODIES:
                body = {"model": "gemma3_text"} | body
                answers = [httpx.post(f"{base}/v1/embeddings", json=body, timeout=120) for base in (single, url)]
                assert answers[0].status_code == answers[1].status_code
                assert answers[0].content == answers[1].content
                assert answers[0].headers.get("x-embergem-space") == answers[1].headers.get("x-embergem-space")
            for path in ("/v1/models", "/ready", "/openapi.json"):
                assert httpx.get(url + path).status_code == 200
            assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "gemma3_text"
    finally:
        serve.shutdown()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"modle": "minilm"}, "has no argument 'modle'. Did you mean 'model'"),
        ({"num_cpus": "many"}, "num_cpus=many is not possible"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas=2 is below min_replicas=3"),
        ({"config": "server.yaml"}, "server.yaml"),
    ],
)
def test_arguments_that_are_wrong_are_refused(arguments, words):
    from embergem.ray.app import build

    with pytest.raises(InvalidConfig, match=words):
        build(arguments)


def test_a_directory_of_batches_is_refused(monkeypatch):
    from embergem.ray.app import build

    monkeypatch.setenv("EMBERGEM_BATCH_PATH", "batches")
    with pytest.raises(InvalidConfig, match="batch_path is 'batches', and the replicas of Ray Serve keep no files"):
        build({})
