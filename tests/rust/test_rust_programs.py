"""The programs in the Rust crate are current, and the conditions of each hold for the right checkpoints only."""

import json
import random
import re
import sys

import pytest
from goldens import DATA, ROOTS, TINY, golden

from embergem import catalog
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.errors import EmbergemError, UnsupportedModel
from embergem.models import architecture
from embergem.models.conditions import RecordingConfig
from embergem.models.unread import require_all_read
from embergem.program.build import build

sys.path.insert(0, str(DATA.parents[2] / "scripts"))
import programs
from published_configs import PUBLISHED, spellings

CARD = re.compile(r"[0-9a-f]{16}(-[a-z-]+)?\.json")
GOLDENS = [name for name, path in TINY.items() if path.parent == DATA]
"""Goldens in the repository, whose cards the crate carries."""


@pytest.fixture(scope="module")
def made():
    """Return the files that the script would write now."""
    return programs.files()


@pytest.fixture(scope="module")
def cards():
    """Return the cards of published models and of all goldens, including goldens in another directory."""
    return [json.loads(text) for name, text in programs.files(ROOTS).items() if CARD.fullmatch(name)]


def config_of(name):
    """Return config.json as the checkpoint reader gives it; for a static model it has the size of the table."""
    return read_checkpoint(Location(name, TINY[name])).config


def equal(a, b):
    """Return whether two JSON values are equal; unlike in Python, true is not 1."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
    return a == b if numbers else json.dumps(a) == json.dumps(b)


def holds(condition, config):
    """Return whether a config.json meets a condition, as the Rust crate decides it."""
    value = config
    for name in condition["path"]:
        if not isinstance(value, dict) or name not in value:
            return condition.get("absent", False) or condition.get("any", False)
        value = value[name]
    if condition.get("any"):
        return True
    if condition.get("object"):
        return isinstance(value, dict)
    return any(equal(value, wanted) for wanted in condition["values"])


def mutations(config, rng):
    """Yield configs that differ from `config` in one field, at the top or in a nested object."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from ({**config, name: inner} for inner in mutations(value, rng))
        yield {other: kept for other, kept in config.items() if other != name}
        for changed in (None, rng.randrange(1, 999), 0.5, True, False, "other", [], {}):
            yield {**config, name: changed}


def test_files_are_current(made):
    written = {path.name: path.read_text() for path in programs.PROGRAMS.iterdir()}
    assert written == made, "stale: run `make programs` and commit what it writes"


@pytest.mark.parametrize("name", TINY)
def test_a_golden_finds_its_card(name, cards):
    checkpoint = golden(name)
    config = config_of(name)
    [card] = [card for card in cards if card["models"] == [f"tests/data/goldens/{name}"]]
    assert any(all(holds(one, config) for one in conditions) for conditions in card["spellings"])
    assert card["model_type"] == checkpoint.architecture.model_type
    program = build(checkpoint.architecture, checkpoint.head)
    assert card["program"] == json.loads(program.to_json())
    assert card["key"] == program.key


@pytest.mark.parametrize("name", TINY)
def test_a_config_that_meets_the_conditions_describes_the_same_model(name):
    config = config_of(name)
    recorded = RecordingConfig(config)
    described = architecture(recorded)
    met = 0
    for other in [config, *mutations(config, random.Random(0))]:
        try:
            same = architecture(other).config == described.config
        except EmbergemError:
            same = False
        fits = all(holds(condition, other) for condition in recorded.conditions)
        try:
            require_all_read(other, recorded.conditions, described.model_type)
        except UnsupportedModel:
            fits = False
        assert same or not fits, other
        met += fits
    assert met > (name != "static_embedding")  # whose config has nothing but what the reader derives from the table


def test_published_configs_are_found_in_every_spelling(cards):
    for published in PUBLISHED:
        for config in spellings(published.config):
            met = {
                card["key"]
                for card in cards
                if any(all(holds(one, config) for one in conditions) for conditions in card["spellings"])
            }
            own = next(card["key"] for card in cards if card["models"] == list(published.models))
            assert own in met


def test_every_model_of_the_catalog_has_a_program():
    published = {name for model in PUBLISHED for name in model.models}
    assert {entry.id for entry in catalog.CATALOG} <= published


def test_two_models_in_one_card_are_refused():
    config = json.loads((DATA / "bert_mean" / "config.json").read_text())
    with pytest.raises(ValueError, match="different models"):
        programs.card([config, {**config, "num_hidden_layers": 1}], [])
