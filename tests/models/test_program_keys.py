"""Program keys do not change: they are part of the fingerprints of vector spaces, which users store.

A correction of a family's arithmetic can leave the key as it is. It then needs an entry in corrections.json.
"""

import json
import sys
from pathlib import Path

import pytest

from embergem.models import find
from embergem.models.corrections import corrections

ROOT = Path(__file__).parents[2]
PINNED = json.loads((ROOT / "tests" / "data" / "program_keys.json").read_text())
"""Model -> program key, as embergem computed it when the model was added. Add entries; never change one."""
ARITHMETIC = json.loads((ROOT / "tests" / "data" / "program_arithmetic.json").read_text())
"""Model -> digest of the operations that it calls."""

CARDS = [json.loads(path.read_text()) for path in (ROOT / "crates" / "embergem" / "programs").glob("*.json")]
KEYS = {model: card["key"] for card in CARDS if "key" in card for model in card["models"]}


@pytest.mark.parametrize("model", PINNED)
def test_the_program_key_is_the_pinned_one(model):
    assert KEYS[model] == PINNED[model], f"{model}: a new field of a Config needs a default for the earlier behaviour"


def test_every_card_is_pinned():
    assert sorted(set(KEYS) - set(PINNED)) == [], "run `make programs` and commit tests/data/program_keys.json"


def test_the_arithmetic_of_a_key_is_the_pinned_one():
    sys.path.insert(0, str(ROOT / "scripts"))
    from programs import arithmetic

    found = arithmetic()
    assert sorted(found) == sorted(ARITHMETIC), "run `make programs` and commit tests/data/program_arithmetic.json"
    changed = sorted(model for model in found if found[model] != ARITHMETIC[model])
    assert changed == [], (
        f"{changed} call other operations under the same program key. If their vectors differ, add an entry to "
        "src/embergem/models/corrections.json, so that compiled directories are made again. Then remove the lines of "
        "these models from tests/data/program_arithmetic.json and run `make programs`."
    )


def test_corrections_are_numbered_and_name_families():
    assert [one.number for one in corrections()] == list(range(1, len(corrections()) + 1))
    assert all(find(model_type) for one in corrections() for model_type in one.model_types)
