"""What one SDK finds out about a model's files, the other one does not compute again: both use the same memos."""

import json

import pytest
from goldens import copy_model

from embergem.errors import NotReady
from embergem.loader import load
from embergem.options import LoadOptions

FIRST_AND_SECOND = [("python", "rust"), ("rust", "python")]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache directory, without packed weights."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EMBERGEM_PACKED_LIMIT", "0")
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    """A copy of the tiny EmbeddingGemma."""
    return copy_model("gemma3_text", tmp_path / "model")


@pytest.fixture
def load_with(pipe, model):
    """Load the model with an SDK: (sdk, dtype) -> error message, or None."""

    def load_it(sdk, dtype="float32"):
        if sdk == "rust":
            answers = pipe(model, dtype=dtype)
            return answers[0]["error"] if answers else None
        with load(LoadOptions(model=model, dtype=dtype)) as engine:
            try:
                engine.require_ready()
            except NotReady as error:
                return str(error)

    return load_it


def memos(cache):
    """Content and inode of each memo by its path."""
    files = [path for path in cache.rglob("*") if path.is_file()]
    return {path.relative_to(cache).as_posix(): (path.read_text(), path.stat().st_ino) for path in files}


@pytest.mark.parametrize(("first", "second"), FIRST_AND_SECOND)
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_the_second_sdk_writes_no_memo(cache, load_with, first, second, dtype):
    assert load_with(first, dtype) is None
    before = memos(cache)
    kinds = {path.split("/")[0] for path in before} - {"fingerprint"}
    assert kinds == {"scanned", "selfcheck"} | ({"exactness"} if dtype == "int16" else set())
    assert load_with(second, dtype) is None
    after = {path: memo for path, memo in memos(cache).items() if not path.startswith("fingerprint/")}
    assert after == {path: memo for path, memo in before.items() if not path.startswith("fingerprint/")}


@pytest.mark.parametrize(("first", "second"), FIRST_AND_SECOND)
def test_the_second_sdk_compares_with_the_vectors_of_the_first(cache, load_with, first, second):
    assert load_with(first) is None
    [memo] = (cache / "selfcheck").iterdir()
    memo.write_text(json.dumps({"vectors": "0" * 64}))
    assert "same_bits: vectors differ from those of the whole check" in load_with(second)
    memo.unlink()
    assert load_with(second) is None
    assert memo.exists()


@pytest.mark.parametrize(("first", "second"), FIRST_AND_SECOND)
def test_a_model_that_failed_is_not_remembered(cache, load_with, model, first, second):
    tokenizer = model / "tokenizer.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"post_processor": None}))
    messages = [load_with(sdk) for sdk in (first, second)]
    assert "failed its self-check: special_tokens" in messages[0]
    assert messages[0] == messages[1]
    assert not (cache / "selfcheck").exists()
