"""The catalog entry that a checkpoint matches, by its directory or names in its files, and the effects of a match."""

import shutil

import ggufs
import msgspec
import pytest
from entries import entry
from goldens import DATA, edit

from embergem import catalog
from embergem.hub import model_cache
from embergem.loader import load
from embergem.options import LoadOptions

pytestmark = pytest.mark.usefixtures("own_catalog")

KNOWN = entry(
    "example/e5-tiny-v2",
    "bert",
    64,
    aliases=("e5-tiny",),
    prompts="e5",
    opening=2,
    closing=3,
    layers=4,
    vocabulary=800,
    pooling="mean",
)


@pytest.fixture
def in_catalog():
    return (KNOWN,)


@pytest.fixture
def put(tmp_path):
    """Write the tiny BERT, which declares no prompts, to a directory, with changed fields in its config.json."""

    def copy(place="model", name="bert_mean", **fields):
        path = shutil.copytree(DATA / name, tmp_path / place)
        edit(path / "config.json", **fields)
        return path

    return copy


def loaded(path):
    """Return the tasks, the limit, and the findings other than "ok", by name."""
    with load(LoadOptions(model=path)) as engine:
        wrong = {finding.name: finding for finding in (*engine.report.failures, *engine.report.warnings)}
        return engine.tasks, engine.limit, wrong


@pytest.mark.parametrize(
    "said",
    [
        "example/e5-tiny-v2",
        "e5-tiny",
        "/root/.cache/torch/sentence_transformers/example_e5-tiny-v2/",
        "C:\\models\\E5 tiny v2",
    ],
)
def test_recognised_by_the_name_in_config_json(put, said):
    tasks, _, wrong = loaded(put(_name_or_path=said))
    assert {"query", "document"} <= set(tasks)
    assert not wrong


@pytest.mark.parametrize("place", ["e5-tiny", "E5_tiny_v2", "hub/models--example--e5-tiny-v2/snapshots/0123abcd"])
def test_recognised_by_its_directory(put, place):
    tasks, _, wrong = loaded(put(place))
    assert {"query", "document"} <= set(tasks)
    assert not wrong


def test_recognised_by_its_place_in_the_cache(put):
    with model_cache.locked(KNOWN.id) as scratch:
        kept = model_cache.store(shutil.move(put(), scratch / "hub"), model=KNOWN.id, source="hub", revision=None)
    tasks, _, wrong = loaded(kept.path)
    assert {"query", "document"} <= set(tasks)
    assert not wrong


@pytest.mark.parametrize(
    "metadata",
    [
        {"general.name": "E5 Tiny v2"},
        {"general.name": "0123abcd", "general.base_model.0.repo_url": "https://huggingface.co/example/e5-tiny-v2"},
        {"general.base_model.0.name": "E5 Tiny"},
    ],
)
def test_recognised_by_the_names_in_a_gguf_file(tmp_path, metadata):
    shutil.copy(DATA / "bert_mean" / "tokenizer.json", tmp_path)
    (tmp_path / "model.gguf").write_bytes(ggufs.of_bert("bert_mean", **metadata))
    tasks, _, wrong = loaded(tmp_path / "model.gguf")
    assert {"query", "document"} <= set(tasks)
    assert not wrong


def test_an_unrecognised_model_warns_with_the_models_it_may_be(put):
    tasks, _, wrong = loaded(put())
    assert tasks == ()
    assert list(wrong) == ["prompts"]
    assert wrong["prompts"].status == "warn"
    assert "example/e5-tiny-v2" in wrong["prompts"].message
    assert "a directory called e5-tiny-v2" in wrong["prompts"].suggestion


def test_an_unrecognised_gguf_file_warns(tmp_path):
    shutil.copy(DATA / "bert_mean" / "tokenizer.json", tmp_path)
    (tmp_path / "model.gguf").write_bytes(ggufs.of_bert("bert_mean"))
    assert list(loaded(tmp_path / "model.gguf")[2]) == ["prompts"]


def test_a_model_with_another_pooling_does_not_warn(put):
    assert loaded(put(name="bert_cls")) == ((), 128, {})


def test_a_name_with_another_shape_is_ignored(put, monkeypatch):
    monkeypatch.setattr(catalog, "CATALOG", (msgspec.structs.replace(KNOWN, vocabulary=30522),))
    assert loaded(put(_name_or_path="example/e5-tiny-v2")) == ((), 128, {})


def test_a_model_with_prompts_is_not_looked_up(put):
    path = put()
    edit(path / "config_sentence_transformers.json", prompts={"query": "ask: ", "document": "say: "})
    tasks, _, wrong = loaded(path)
    assert "query" in tasks
    assert not wrong


def test_the_published_limit_applies_if_only_positions_bound_the_limit(put, monkeypatch):
    monkeypatch.setattr(catalog, "CATALOG", (msgspec.structs.replace(KNOWN, limit=50),))
    path = put("e5-tiny")
    assert loaded(path)[1] == 128  # the checkpoint declares 128; the self-check warns that 50 was published
    assert list(loaded(path)[2]) == ["limit"]
    edit(path / "sentence_bert_config.json", max_seq_length=None)
    _, limit, wrong = loaded(path)
    assert limit == 50
    assert not wrong
