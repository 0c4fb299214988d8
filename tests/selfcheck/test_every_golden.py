"""The self-check of every golden: it passes, and it finds lost special tokens where the family declares them."""

import json

import pytest
from goldens import TINY, copy_model

from embergem.loader import load
from embergem.models import find
from embergem.options import LoadOptions


def report(path):
    with load(LoadOptions(model=path)) as engine:
        return engine.report, find(engine.model_type)[1]


@pytest.mark.parametrize("name", TINY)
def test_it_passes(name):
    found, family = report(TINY[name])
    assert found.failures == ()
    messages = {finding.name: finding.message for finding in found.findings}
    expected = "every text has its special tokens" if family.special_tokens else "no special tokens"
    assert expected in messages["special_tokens"]
    assert "distinct" in messages


@pytest.mark.parametrize("name", TINY)
def test_lost_special_tokens_are_found(name, tmp_path):
    model = copy_model(name, tmp_path / name)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    found, family = report(model)
    failed = "special_tokens" in [finding.name for finding in found.failures]
    assert failed == bool(family.special_tokens)
