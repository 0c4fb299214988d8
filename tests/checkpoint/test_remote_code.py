"""`auto_map` is refused, unless the catalog knows by the digests of the weights that the code is not needed."""

import json
import shutil

import msgspec
import pytest
from goldens import TINY, edit

from embergem import catalog
from embergem.checkpoint import remote_code
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.files import sha256
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.prepare import prepare
from embergem.errors import UnsupportedModel

CODE = {"AutoModel": "elsewhere--modeling_own.OwnModel"}


ENTRIES = {"nomic_bert": "nomic-embed-text-v1.5", "gte_new": "gte-multilingual-base"}
"""Golden -> catalog entry of a model of the same form whose code is known."""


@pytest.fixture(params=ENTRIES)
def model(request, tmp_path, monkeypatch):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    path = shutil.copytree(TINY[request.param], tmp_path / request.param)
    edit(path / "config.json", auto_map=CODE)
    (path / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}})
    )
    return path


def prepared(path):
    return prepare(read_checkpoint(Location("model", path)), "model")


def known(path, digest):
    weights = path / "model.safetensors"
    pin = catalog.PinnedFile(path=weights.name, size=weights.stat().st_size, sha256=digest)
    entry = catalog.find(ENTRIES[path.name])
    return (msgspec.structs.replace(entry, files=(pin,)),)


def test_unknown_code_is_refused(model):
    with pytest.raises(
        UnsupportedModel, match=r"tokenizer_config\.json: auto_map names code that comes with the model"
    ):
        prepared(model)
    (model / "tokenizer_config.json").unlink()
    with pytest.raises(
        UnsupportedModel, match=r"config\.json: auto_map names code that comes with the model, .*OwnModel"
    ):
        prepared(model)


def test_code_of_known_weights_is_not_needed(model, monkeypatch):
    monkeypatch.setattr(remote_code, "CATALOG", known(model, sha256(model / "model.safetensors")))
    for _ in range(2):  # the second time, the digest is a stored note
        assert prepared(model).entry is None
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(UnsupportedModel, match="auto_map"):
        prepared(model)


def test_entries_with_known_code_pin_all_weights():
    entries = [entry for entry in catalog.CATALOG if entry.remote_code]
    assert entries
    for entry in entries:
        pins = [file for file in entry.files if file.path.endswith(".safetensors")]
        assert pins
        assert all(len(pin.sha256) == 64 for pin in pins)
