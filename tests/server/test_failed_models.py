"""Weight files that are changed under a server: the model answers 503 until it is loaded again, the others go on."""

import os
import signal

import httpx
import pytest
from goldens import DATA, copy_model
from serving import configured

from embergem.config import EmbeddingEntry
from embergem.options import LoadOptions

if not hasattr(signal, "SIGBUS"):
    pytest.skip("this system refuses to cut a mapped file short", allow_module_level=True)

OTHER = EmbeddingEntry(name="other", options=LoadOptions(model=str(DATA / "bert_mean")))


def cut(path):
    os.truncate(path, 0)


def overwrite(path):
    with path.open("r+b") as file:
        file.write(bytes(byte ^ 1 for byte in path.read_bytes()))


@pytest.mark.parametrize("change", [cut, overwrite])
def test_a_changed_file_fails_its_model_until_it_is_loaded_again(tmp_path, change):
    weights = copy_model("gemma3_text", tmp_path / "model") / "model.safetensors"
    sound = weights.read_bytes()
    changing = EmbeddingEntry(name="changing", options=LoadOptions(model=str(weights.parent)))
    with configured(changing, OTHER) as (url, registry), httpx.Client(base_url=url, timeout=60) as client:

        def embed(model, *texts):
            return client.post("/v1/embeddings", json={"input": texts or ["a", "b"], "model": model})

        registry.wait()
        before = embed("changing")
        assert before.status_code == 200
        change(weights)
        for attempt in range(3):
            # The first request computes a new row, which finds the change. The rows of the others are in the cache.
            answer = embed("changing", "a", "c") if attempt == 0 else embed("changing")
            assert answer.status_code == 503, attempt
            error = answer.json()["error"]
            assert error["code"] == "model_failed"
            assert "model.safetensors of the loaded model was" in error["message"]
            assert str(tmp_path) not in error["message"]
            assert embed("other").status_code == 200
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["models"]) == (503, {"changing": "failed", "other": "loaded"})
        assert "model.safetensors of the loaded model was" in ready.json()["reasons"]["changing"]
        weights.write_bytes(sound)
        assert embed("changing").status_code == 503, "the bytes in memory may be others"
        assert client.post("/v1/models/load", json={"model_id": "changing"}).json()["status"] == "loaded"
        assert embed("changing").json()["data"] == before.json()["data"]
        assert client.get("/ready").status_code == 200
