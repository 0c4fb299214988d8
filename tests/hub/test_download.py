"""Downloads from a stand-in for the hub, by the real `huggingface_hub` in a process of its own."""

import socket
import threading
from pathlib import Path

import pytest
from fakehub import COMMIT
from goldens import DATA, files_of

from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint

WITH_OTHERS = {
    "pytorch_model.bin": b"pickle",
    "modeling_custom.py": b"print('never run')",
    "onnx/model.onnx": b"onnx",
    "README.md": b"words",
}


@pytest.fixture
def tiny(hub):
    hub.repos["acme/tiny"] = files_of(DATA / "gemma3_text") | WITH_OTHERS
    return hub


def test_only_the_files_that_the_modules_need_are_downloaded(tiny, start):
    found = start(tiny, "acme/tiny").result()
    path = Path(found["path"])
    assert found["id"] == "acme/tiny"
    assert found["revision"] == COMMIT
    checkpoint = read_checkpoint(Location("acme/tiny", path))
    assert [prefix for prefix, _ in checkpoint.weights] == ["", "2_Dense.", "3_Dense."]
    assert {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} == {
        "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "3_Dense/config.json",
        "3_Dense/model.safetensors", "config.json", "config_sentence_transformers.json", "embergem.json",
        "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json",
    }  # fmt: skip
    assert not [path for part in WITH_OTHERS for path in tiny.downloads(part)]


def test_a_cached_model_needs_no_request(tiny, start):
    first = start(tiny, "acme/tiny").result()
    requests = len(tiny.requests)
    assert start(tiny, "acme/tiny").result() == first
    assert len(tiny.requests) == requests


def test_no_telemetry_is_sent(tiny, start):
    start(tiny, "acme/tiny").result()
    agents = {headers["user-agent"] for _, _, headers in tiny.requests}
    assert all(agent.startswith("embergem") for agent in agents)
    assert not [agent for agent in agents if "torch/" in agent or "agent/" in agent]
    assert not [path for _, path, _ in tiny.requests if "telemetry" in path]


def test_the_hub_librarys_cache_is_used_offline(tiny, start, tmp_path):
    start(tiny, "acme/tiny").result()
    requests = len(tiny.requests)
    found = start(tiny, "acme/tiny", EMBERGEM_CACHE=str(tmp_path / "other"), HF_HUB_OFFLINE="1").result()
    assert found["revision"] == COMMIT
    assert len(tiny.requests) == requests


def test_offline_without_a_cached_model_names_the_reason(tiny, start):
    failed = start(tiny, "acme/tiny", HF_HUB_OFFLINE="1").result()
    assert failed["error"] == "DownloadError"
    assert "HF_HUB_OFFLINE" in failed["message"]
    assert tiny.requests == []


def test_an_incomplete_model_in_the_hub_librarys_cache_is_not_used(tiny, start, tmp_path):
    start(tiny, "acme/tiny").result()
    for file in (tmp_path / "hf").rglob("snapshots/*/3_Dense/model.safetensors"):
        file.unlink()
    failed = start(tiny, "acme/tiny", EMBERGEM_CACHE=str(tmp_path / "other"), HF_HUB_OFFLINE="1").result()
    assert failed["error"] == "DownloadError"
    assert not list((tmp_path / "other" / "models").iterdir())


def test_a_gated_model_without_access_says_what_to_do(hub, start):
    hub.repos["google/embeddinggemma-300m"] = files_of(DATA / "gemma3_text")
    hub.gated.add("google/embeddinggemma-300m")
    failed = start(hub, "embeddinggemma-300m").result()
    assert failed["error"] == "GatedModel"
    assert "HF_TOKEN" in failed["message"]
    assert "unsloth/embeddinggemma-300m" in failed["message"]
    assert f"{hub.url}/google/embeddinggemma-300m" in failed["message"]


def test_a_gated_model_whose_authors_have_not_accepted_the_account(hub, start):
    hub.repos["acme/gated"] = files_of(DATA / "gemma3_text")
    hub.gated.add("acme/gated")
    hub.waiting.add("hf_waiting")
    failed = start(hub, "acme/gated", HF_TOKEN="hf_waiting").result()
    assert failed["error"] == "GatedModel"
    words = (
        "acme/gated is gated, and the account of the access token (from HF_TOKEN) is not accepted yet. Ask for access"
    )
    assert words in failed["message"]
    assert "hf_waiting" not in failed["message"]


@pytest.mark.parametrize("source", ["cache", "env:OTHER_TOKEN", "literal:hf_wrong"])
def test_a_wrong_token_says_where_it_came_from_and_what_to_do(hub, start, source):
    hub.repos["acme/open"] = files_of(DATA / "gemma3_text")
    hub.refused.add("hf_wrong")
    variables = {"cache": {"HF_TOKEN": "hf_wrong"}, "env:OTHER_TOKEN": {"OTHER_TOKEN": "hf_wrong"}}.get(source, {})
    failed = start(hub, "acme/open", options={"token_source": source}, **variables).result()
    assert failed["error"] == "DownloadError"
    where = {"cache": "from HF_TOKEN", "env:OTHER_TOKEN": "from the variable OTHER_TOKEN"}.get(source, "token_source")
    assert (
        f"refused the access token ({'given as ' if where == 'token_source' else ''}{where}, status 401)"
        in (failed["message"])
    )
    assert "/settings/tokens" in failed["message"]
    assert failed["message"].endswith(
        "Correct the cause at one of these sources, or name a directory that contains the model."
    )
    assert "hf_wrong" not in failed["message"]


def test_a_gated_model_is_downloaded_with_the_token(hub, start):
    hub.repos["acme/gated"] = files_of(DATA / "gemma3_text")
    hub.gated.add("acme/gated")
    assert start(hub, "acme/gated").result()["error"] == "GatedModel"
    assert start(hub, "acme/gated", HF_TOKEN=hub.token).result()["id"] == "acme/gated"


def test_files_that_differ_from_the_pins_of_the_catalog_are_refused(hub, start):
    hub.repos["unsloth/embeddinggemma-300m"] = files_of(DATA / "gemma3_text")
    failed = start(hub, "unsloth/embeddinggemma-300m").result()
    assert failed["error"] == "DownloadError"
    assert "is not the file that embergem expects" in failed["message"]
    assert not hub.downloads("model.safetensors"), "the hash that the hub declares shows it before a download"


def test_the_mirror_names_the_terms_of_use(hub, start):
    hub.repos["unsloth/embeddinggemma-300m"] = files_of(DATA / "gemma3_text")
    unpin = "import msgspec; catalog.CATALOG = tuple(msgspec.structs.replace(e, files=()) for e in catalog.CATALOG)"
    process = start(hub, "unsloth/embeddinggemma-300m", unpin)
    assert process.result()["id"] == "unsloth/embeddinggemma-300m"
    assert "https://ai.google.dev/gemma/terms" in process.log


def test_a_model_that_is_not_on_the_hub_is_unknown(hub, start):
    failed = start(hub, "acme/nothing").result()
    assert failed["error"] == "UnknownModel"
    assert "'acme/nothing'" in failed["message"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_that_differ_from_the_declared_hash_are_refused(tiny, start, tmp_path, name):
    data = tiny.repos["acme/tiny"][name]
    tiny.served[name] = bytes([data[0] ^ 1]) + data[1:]
    failed = start(tiny, "acme/tiny").result()
    assert failed["error"] == "DownloadError"
    assert f"{name} of acme/tiny arrived with other bytes" in failed["message"]
    assert not list((tmp_path / "cache" / "models").iterdir())


def test_a_damaged_file_in_the_hub_librarys_cache_is_downloaded_again(tiny, start, tmp_path):
    start(tiny, "acme/tiny").result()
    blob = next((tmp_path / "hf").rglob("snapshots/*/tokenizer.json")).resolve()
    good = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(good[:-1] + b" ")
    process = start(tiny, "acme/tiny", EMBERGEM_CACHE=str(tmp_path / "other"))
    assert (Path(process.result()["path"]) / "tokenizer.json").read_bytes() == good
    assert "tokenizer.json of acme/tiny is damaged" in process.log


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("modules.json", "has no modules.json"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("model.safetensors", "has no model.safetensors"),
        ("3_Dense/model.safetensors", "has no 3_Dense/model.safetensors"),
    ],
)
def test_an_incomplete_repository_is_refused_before_weights_are_downloaded(tiny, start, lost, message):
    del tiny.repos["acme/tiny"][lost]
    failed = start(tiny, "acme/tiny").result()
    assert message in failed["message"]
    assert not tiny.downloads(".safetensors")


def test_an_unknown_module_is_refused_before_weights_are_downloaded(tiny, start):
    modules = tiny.repos["acme/tiny"]["modules.json"]
    tiny.repos["acme/tiny"]["modules.json"] = modules.replace(b"models.Normalize", b"models.LayerNorm")
    failed = start(tiny, "acme/tiny").result()
    assert failed["error"] == "UnsupportedModel"
    assert "LayerNorm" in failed["message"]
    assert not tiny.downloads(".safetensors")


def test_a_hub_that_does_not_respond_is_an_error_after_a_timeout(start):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never responds
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        failed = start(url, "acme/tiny", "download.CONNECT_SECONDS = download.RESPONSE_SECONDS = 0.2").result()
    assert failed["error"] == "DownloadError"
    assert url in failed["message"]


def test_a_hub_that_refuses_connections_is_an_error(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    failed = start(url, "acme/tiny").result()
    assert failed["error"] == "DownloadError"
    assert url in failed["message"]


def test_two_processes_download_a_model_once(tiny, start):
    both = [start(tiny, "acme/tiny", start_now=False) for _ in range(2)]
    for process in both:
        process.go()
    first, second = (process.result() for process in both)
    assert first == second
    assert len(tiny.downloads("/model.safetensors")) == 3  # of the body and of two dense layers


def test_a_killed_download_leaves_no_incomplete_model(tiny, start, tmp_path):
    requested, respond = threading.Event(), threading.Event()
    tiny.hold = ("3_Dense/model.safetensors", requested, respond)
    process = start(tiny, "acme/tiny")
    assert requested.wait(60)
    process.kill()
    tiny.hold = None
    respond.set()
    home = tmp_path / "cache" / "models" / "acme--tiny"
    assert not (home / "current").exists()
    path = Path(start(tiny, "acme/tiny").result()["path"])
    assert len(read_checkpoint(Location("acme/tiny", path)).weights) == 3
    assert sorted(entry.name for entry in home.iterdir()) == sorted([path.name, "current"])
