"""Models and data that tests share. A test whose data is missing on this machine is skipped with the reason."""

import logging
import shutil
import signal
import sys
from pathlib import Path

import httpx
import pytest

from embergem.config import EmbeddingEntry, Settings
from embergem.embedder import Embedder
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions
from embergem.registry import Registry, Spec
from embergem.server.run import serve
from embergem.server.signals import RELOAD, Signals

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


SIGNALS = [number for number in (signal.SIGINT, signal.SIGTERM, RELOAD) if number is not None]


@pytest.fixture
def serve_tiny(tiny, monkeypatch):
    """Return a function that serves a lazy model on this thread and handles signals, as `embergem serve` does."""
    for name in ("embergem", "embergem.access"):
        logger = logging.getLogger(name)
        for attribute in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, attribute, getattr(logger, attribute))
    entry = EmbeddingEntry(name="tiny", options=LoadOptions(model=str(tiny)), lazy=True)

    def run_serve(keys=tuple, announce=lambda line: None, **settings):
        given = Settings(port=0, log_level="critical", access_log="off", max_connections=8, **settings)
        with Signals() as signals:
            return serve(given, [entry], signals, keys=keys, announce=announce)

    before = [signal.getsignal(number) for number in SIGNALS]
    yield run_serve
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.fixture
def http(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client
