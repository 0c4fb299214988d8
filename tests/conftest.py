"""Models and data that tests share. A test whose data is missing on this machine is skipped with the reason."""

import shutil
import sys
from pathlib import Path

import httpx
import pytest

from embergem.embedder import Embedder
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions
from embergem.registry import Registry, Spec

sys.path.insert(0, str(Path(__file__).parent))

from isolation import ASSETS, unchanged_environment, use_own_cache
from serving import running

use_own_cache()

TINY = Path(__file__).parent / "data" / "goldens" / "gemma3_text"


def asset(name):
    path = ASSETS / name
    if not path.exists():
        pytest.skip(f"{path} is not there; `make assets` fetches it where npm and the package index can be reached")
    return path


@pytest.fixture(autouse=True)
def environment():
    """Fails a test that leaves environment variables changed. It is set up first and ends after `monkeypatch`."""
    with unchanged_environment():
        yield


@pytest.fixture(scope="session")
def tiny():
    """Directory of the tiny EmbeddingGemma."""
    return TINY


@pytest.fixture(scope="session")
def embedder():
    """The tiny EmbeddingGemma, loaded."""
    with Embedder(TINY) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def query_only(tmp_path_factory):
    """Directory of a tiny BERT that declares a prompt for queries only, like most retrieval models."""
    directory = shutil.copytree(TINY.parent / "bert_mean", tmp_path_factory.mktemp("models") / "query_only")
    (directory / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    return directory


@pytest.fixture(scope="session")
def minilm():
    """The default model with its real weights."""
    return resolve(LoadOptions()).path


@pytest.fixture(scope="session")
def gemma_tokenizer():
    """The real Gemma 3 tokenizer.json."""
    return asset("gemma3-tokenizer") / "tokenizer.json"


@pytest.fixture(scope="session")
def random_gemma():
    """Directory of the full-size EmbeddingGemma with random weights."""
    return asset("random-embeddinggemma-300m")


@pytest.fixture(scope="session")
def lee():
    """Directory of the Lee corpus."""
    return asset("lee")


@pytest.fixture(scope="session")
def registry(tiny):
    """The models gemma3_text (the default) and bert_mean, loaded."""
    with Registry() as models:
        for name in ("gemma3_text", "bert_mean"):
            models.add(name, Spec.of(tiny.parent / name))
            models.load(name)
        yield models


@pytest.fixture(scope="session")
def url(registry):
    """Address of a server of `registry`."""
    with running(registry) as address:
        yield address


@pytest.fixture
def http(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
