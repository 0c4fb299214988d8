"""`verify` against servers with one fault each. The NumPy specification computes the vectors of these servers."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faulty_server import Faults, Rounded, cut, model, serving, verdict_on, without
from goldens import golden
from typer.testing import CliRunner

import embergem
from embergem.checkpoint.checkpoint import Location
from embergem.cli.app import app as commands
from embergem.diagnostics.verify.local import LocalModel
from embergem.models.head import Dense, Normalize, Pooling


@pytest.fixture(scope="module")
def correct(tiny):
    return Faults(golden("gemma3_text"), LocalModel(Location("tiny", tiny)))


CAUSES = {
    "dense": lambda correct: model(correct, head=without(Dense)),
    "window": lambda correct: model(correct, config={"radius": 16}),
    "window off": lambda correct: model(correct, config={"radius": 1000}),
    "window halved": lambda correct: model(correct, config={"radius": 4}),
    "window exclusive": lambda correct: model(correct, config={"radius": 7}),
    "pooling": lambda correct: model(
        correct, head=lambda head: tuple(Pooling("cls") if isinstance(part, Pooling) else part for part in head)
    ),
    "normalisation": lambda correct: model(correct, head=without(Normalize)),
    "prompt": lambda correct: replace(correct, text=lambda text: f"title: none | text: {text}"),
    "prompt of another model": lambda correct: replace(correct, text=lambda text: f"passage: {text}"),
    "truncation": lambda correct: replace(correct, ids=cut(32)),
    "truncation at its own size": lambda correct: replace(correct, ids=cut(77)),
    "truncation careless": lambda correct: replace(correct, ids=lambda ids: ids[:64]),
    "tokenizer": lambda correct: replace(correct, ids=lambda ids: ids[:-1]),
    "tokenizer doubles": lambda correct: replace(correct, ids=lambda ids: np.concatenate([ids[:1], ids])),
    "tokenizer lower case": lambda correct: replace(correct, text=str.lower),
    "dtype": lambda correct: replace(correct, vector=lambda vector: vector.astype(np.float16)),
    "dtype of weights": lambda correct: replace(correct, golden=Rounded(**vars(correct.golden))),
    "dtype overflow": lambda correct: replace(correct, vector=lambda vector: np.full_like(vector, np.nan)),
    "dimensions": lambda correct: replace(correct, vector=lambda vector: vector[:64] / np.linalg.norm(vector[:64])),
    "batch": lambda correct: replace(correct, together=lambda vectors: [v + 0.05 * vectors[-1] for v in vectors]),
}


DESCRIPTIONS = {
    "window": "a window of 16 tokens each way: the stored window is taken as the reach",
    "window off": "without a sliding window",
    "window halved": "halved",
    "window exclusive": "one token too small",
    "truncation": "cut to 32 tokens",
    "truncation at its own size": "cut to 77 tokens",
    "truncation careless": "the closing token cut off",
    "prompt": "'document'",
    "prompt of another model": "'passage: '",
    "dtype": "rounded to float16",
    "dtype of weights": "a lower precision",
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_named(correct, name):
    found = verdict_on(CAUSES[name](correct))
    assert not found.agrees
    assert found.cause == name.split()[0], (found.cause, found.explanation)
    assert DESCRIPTIONS.get(name, "") in found.explanation


def test_a_correct_server_agrees(correct):
    found = verdict_on(replace(correct, encode=True))
    assert found.agrees
    assert found.cause is None
    assert all(row.cosine > 0.999999 and row.tokens == row.tokens_there for row in found.rows)


def test_a_causal_mask_is_found(correct, monkeypatch):
    from embergem.ops.reference import Reference

    attention = Reference.attention
    monkeypatch.setattr(Reference, "attention", lambda *a, **options: attention(*a, **options | {"causal": True}))
    found = verdict_on(replace(correct, golden=replace(correct.golden)))
    assert found.cause == "attention"
    assert "causal" in found.explanation


def test_two_faults_are_both_named(correct):
    found = verdict_on(replace(model(correct, head=without(Dense)), ids=cut(32)))
    assert found.cause == "dense and truncation"


def test_a_difference_that_no_fault_explains_is_unknown(correct):
    found = verdict_on(replace(correct, vector=lambda vector: np.roll(vector, 1)))
    assert found.cause == "unknown"
    assert "no fault that was tried" in found.explanation


def test_other_token_counts_mean_another_tokenizer(correct):
    found = verdict_on(replace(correct, ids=lambda ids: np.repeat((ids * 7) % 1000, 2)[:100]))
    assert found.cause == "tokenizer"
    assert "counts" in found.explanation


def test_a_refusal_is_a_note(correct):
    found = verdict_on(replace(correct, text=lambda text: text or None, counts=False))
    assert found.agrees
    assert "empty: refused (status 400" in found.notes[0]


def test_the_command_prints_the_verdict_and_sets_the_exit_code(correct, tiny):
    with serving(correct) as url:
        good = CliRunner().invoke(commands, ["verify", str(tiny), "--against", url])
    assert good.exit_code == 0, good.output
    assert "They agree" in good.output
    with serving(CAUSES["dense"](correct)) as url:
        bad = CliRunner().invoke(commands, ["verify", str(tiny), "--against", f"{url}/v1/", "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.output)["cause"] == "dense"


LIBRARY = """
import numpy as np
from embergem import Embedder
class SentenceTransformer:
    def __init__(self, path, **options):
        assert options["local_files_only"]
        self.embedder = Embedder(path)
    def encode(self, texts, **options):
        return self.embedder.embed(texts, truncate=True)[:, ::{step}]
"""


@pytest.mark.parametrize(("step", "code"), [(1, 0), (-1, 1)])
def test_the_library_runs_in_another_interpreter(tiny, tmp_path, monkeypatch, step, code):
    (tmp_path / "sentence_transformers.py").write_text(LIBRARY.format(step=step))
    package = Path(embergem.__file__).parents[1]  # the same embergem, also if it is not installed
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{package}")
    command = ["verify", str(tiny), "--against", "sentence-transformers", "--python", sys.executable]
    assert CliRunner().invoke(commands, command).exit_code == code


def test_a_python_without_the_library_says_what_to_do(tiny, tmp_path):
    from embergem.errors import UnsupportedOption

    result = CliRunner().invoke(commands, ["verify", str(tiny), "--python", sys.executable])
    assert isinstance(result.exception, UnsupportedOption)
    assert "--python" in str(result.exception)
