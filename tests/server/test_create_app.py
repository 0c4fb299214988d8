"""`create_app`: the ASGI application without embergem's own server around it."""

import asyncio
import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from embergem.config import Settings
from embergem.server.app import create_app


def call(app, method, path, **request):
    """Send one request to an ASGI application, in process."""

    async def send():
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def test_an_application_serves_the_models_of_its_registry(registry):
    app = create_app(registry)
    answer = call(app, "POST", "/v1/embeddings", json={"input": ["a", "b"], "model": "gemma3_text"})
    assert [len(item["embedding"]) for item in answer.json()["data"]] == [96, 96]
    assert call(app, "GET", "/v1/models/default").json()["root"] == "gemma3_text"


def test_settings_apply(registry, caplog):
    settings = Settings(strict=True, max_inputs=1, cors=("https://app.example",), access_log="json")
    app = create_app(registry, settings)
    with caplog.at_level(logging.INFO, logger="embergem.access"):
        refused = [
            call(app, "POST", "/v1/embeddings", json=body).json()["error"]["param"]
            for body in ({"input": "a", "priority": 1}, {"input": ["a", "b"]})
        ]
    assert refused == ["priority", "input"]
    assert [record.message.count('"status":400') for record in caplog.records] == [1, 1]
    origin = {"origin": "https://app.example"}
    allowed = call(app, "GET", "/health", headers=origin).headers["access-control-allow-origin"]
    assert allowed == "https://app.example"


@pytest.mark.parametrize(("headers", "status"), [({}, 200), ({"x-forwarded-for": "192.0.2.7"}, 403)])
def test_a_mounted_application_lets_local_programs_manage_models(registry, headers, status):
    app = Starlette(routes=[Mount("/embed", create_app(registry))])
    answer = call(app, "POST", "/embed/v1/models/status", json={"model_id": "default"}, headers=headers)
    assert answer.status_code == status
