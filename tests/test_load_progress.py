"""Tests of the stages that a load announces: in the log, or on a terminal with a bar."""

import io
import logging
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from goldens import DATA

from embergem import Embedder, progress
from embergem._native import LoadProgress as NativeProgress
from embergem._native import Model
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.prepare import prepare
from embergem.options import DEFAULTS
from embergem.progress import LoadProgress, silent

TINY = DATA / "gemma3_text"


class Terminal(io.StringIO):
    """A terminal that tells when something was written."""

    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def write(self, text):
        self.written.set()
        return super().write(text)

    def isatty(self):
        return True


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)


@pytest.fixture
def terminal(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=shown))  # pytest sets sys.stderr again for the test
    return shown


def announced(load, written):
    """Run a stage that lasts until it was announced."""
    with load.stage("packing", lambda: (1, 2)):
        assert written.wait(30)


def test_a_long_stage_is_logged_and_the_end_says_how_long_each_took(impatient, caplog):
    written = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: written.set()
    with caplog.at_level(logging.INFO, "embergem.progress"):
        progress.log.addHandler(handler)
        try:
            load = LoadProgress("model")
            announced(load, written)
            load.finish()
        finally:
            progress.log.removeHandler(handler)
    assert [record.message.split(" in ")[0] for record in caplog.records] == ["model: packing …", "model: loaded"]
    assert "(packing 0 s)" in caplog.records[1].message


def test_a_terminal_shows_the_stages_when_nobody_reads_the_log(impatient, terminal, caplog):
    caplog.set_level(logging.WARNING, progress.log.name)
    load = LoadProgress("model")
    announced(load, terminal.written)
    load.finish()
    assert terminal.getvalue().startswith("model: packing …\n")
    assert "model: loaded in 0 s" in terminal.getvalue()


def test_a_silenced_terminal_shows_nothing(impatient, terminal, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, progress.log.name)
    asked = threading.Event()
    monkeypatch.setattr(progress, "_is_terminal", lambda ask=progress._is_terminal: (ask(), asked.set())[0])
    with silent():
        load = LoadProgress("model")
        announced(load, asked)
        load.finish()
    assert terminal.getvalue() == ""


def test_a_load_has_the_stages(impatient, monkeypatch):
    stages = []
    monkeypatch.setattr(LoadProgress, "stage", lambda self, title, read=None: nullcontext(stages.append(title)))
    with Embedder(TINY):
        pass
    assert stages == ["reading and packing the weights", "checking the model", "hashing the files"]


def test_packed_weights_are_counted_unless_an_earlier_load_packed_them(tmp_path):
    checkpoint = read_checkpoint(Location("tiny", TINY), DEFAULTS)
    source = prepare(checkpoint, "tiny", DEFAULTS).program.to_json()
    counts = []
    for _ in range(2):
        counted = NativeProgress()
        assert counted.read() == (0, 0)
        Model.load(source, checkpoint.files, packed=str(tmp_path), packed_limit=1 << 30, progress=counted)
        counts.append(counted.read())
    (packed, total), again = counts
    assert 0.9 * total < packed <= total
    assert again == (0, 0)
