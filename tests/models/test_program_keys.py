"""Program keys do not change: they are part of the fingerprints of vector spaces, which users store."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = json.loads((ROOT / "tests" / "data" / "program_keys.json").read_text())
"""Model -> program key, as embergem computed it when the model was added. Add entries; never change one."""

CARDS = [json.loads(path.read_text()) for path in (ROOT / "crates" / "embergem" / "programs").glob("*.json")]
KEYS = {model: card["key"] for card in CARDS if "key" in card for model in card["models"]}


@pytest.mark.parametrize("model", PINNED)
def test_the_program_key_is_the_pinned_one(model):
    assert KEYS[model] == PINNED[model], f"{model}: a new field of a Config needs a default for the earlier behaviour"


def test_every_card_is_pinned():
    assert sorted(set(KEYS) - set(PINNED)) == [], "add the new keys to tests/data/program_keys.json"
