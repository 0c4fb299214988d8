"""The pages about the server are complete, and their application and settings do what the pages say."""

import re
from pathlib import Path

from starlette.testclient import TestClient

from embergem.config import Settings, read_config
from embergem.protocol import TokenizeRequest
from embergem.server.app import build_app
from embergem.server.state import ServerState

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page, language):
    """Return the blocks of code in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_tables_of_errors_and_operations_are_complete():
    source = "".join(path.read_text() for path in (DOCS.parent / "src").rglob("*.py"))
    page = (DOCS / "http.md").read_text()
    for code in re.findall(r"^\| \d{3} \| `(\w+)` \|", page, re.MULTILINE):
        assert f'"{code}"' in source, code
    from embergem.server.app import OPERATIONS

    for operation in OPERATIONS:
        name = operation.path.split("/{")[0].rsplit("/", 1)[1]
        assert name in page, operation.path


def test_the_mounted_application_of_the_page_runs(minilm):
    """Run the example, with the directory of the model in place of its hub id."""
    (snippet,) = blocks("operations.md", "python")
    names = {}
    exec(
        compile(snippet.replace("sentence-transformers/all-MiniLM-L6-v2", str(minilm)), "operations.md", "exec"), names
    )
    with TestClient(names["app"]) as client:
        assert names["registry"].wait()
        answer = client.post("/embed/v1/embeddings", json={"input": "What is graphene?", "model": "minilm"})
        assert len(answer.json()["data"][0]["embedding"]) == 384
        assert answer.headers["x-request-id"]
        assert client.get("/embed/ready").json()["models"] == {"minilm": "loaded"}
        assert "/v1/embeddings" in client.get("/embed/openapi.json").json()["paths"]
        missing = client.get("/embed/nothing")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_the_description_has_every_status_and_the_page_every_field(registry):
    state = ServerState(registry, Settings(access_log="off"))
    with TestClient(build_app(state)) as client:
        described = client.get("/openapi.json").json()
        page = client.get("/docs").text
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            is_admin = operation.get("security") == [{"key": []}]
            stores = method != "get" and path.startswith(("/v1/files", "/v1/batches"))
            assert ("403" in operation["responses"]) == (is_admin or stores), path
            for parameter in operation.get("parameters", ()):
                assert parameter["required"] == (parameter["in"] == "path"), path
    for name in TokenizeRequest.__struct_fields__:
        assert f"<code>{name}</code>" in page


def test_settings(tmp_path):
    (settings,) = blocks("operations.md", "toml")
    (tmp_path / "keys.toml").write_text(f'[[keys]]\nname = "mine"\nsha256 = "{"0" * 64}"\n')
    (tmp_path / "server.toml").write_text(settings)
    config = read_config(tmp_path / "server.toml", {}, {})
    assert [model.name for model in config.models] == ["gemma", "minilm", "llama"]
    (selectors,) = blocks("operations.md", "json")
    (tmp_path / "models.json").write_text(selectors)
    assert [model.name for model in read_config(tmp_path / "models.json", {}, {}).models] == ["embed-gemma", "llama"]


def test_every_setting_is_described():
    page = (DOCS / "operations.md").read_text()
    from embergem.config import Key, Settings

    for name in Settings.__struct_fields__:
        assert re.search(rf"^{name} = ", page, re.MULTILINE), name
    for name in Key.__struct_fields__:
        if name not in ("name", "sha256"):
            assert f"--{name.replace('_', '-')}" in page, name
