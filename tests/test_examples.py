"""The examples run, on tiny models and on the default model. `make test-integrations` runs the others."""

import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from embergem import TruncationWarning, catalog

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(path, *arguments):
    command = [sys.executable, str(EXAMPLES / path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_python(tiny):
    output = run("python/embedding_gemma.py", str(tiny))
    assert output.count(",") == 4
    assert "Embedding 1: 96 dimensions" in output


def test_server(url):
    output = run("server/embedding.py", f"{url}/v1")
    assert "Embedding 1: 96 dimensions" in output
    assert "The prompt by task is the same: True" in output


SHOWN = {
    "semantic_search": [
        "atom thick?\n  0.455  Graphene",
        "without loss?\n  0.401  Superconductors",
        "0.479  Sourdough",
    ],
    "near_duplicates": ["0.865  The meeting", "0.836  The invoice", "2 pairs at 0.8"],
    "classification": ["sport    The goalkeeper", "food     Knead", "travel   Our ferry", "100% right"],
    "code_retrieval": ["reference.py:", "attention"],
    "embed_corpus": ["4 rows, 3 computed, 1 duplicate, 1 skipped", "0.511  g1  Graphene"],
    "two_stage_search": ["2,400 bytes of bits, 19,200 of int8, 76,800", "heron over the roofs", "3 of the 3"],
}
"""Output of each example with the default model. Tiny models have random weights, so only the form is checked."""


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("model", ["minilm", "tiny", "query_only"])
def test_everyday(name, model, request, monkeypatch, capsys):
    arguments = [str(request.getfixturevalue(model))]
    if name == "code_retrieval":
        arguments.append(str(EXAMPLES.parent / "src" / "embergem" / "ops"))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        runpy.run_path(str(EXAMPLES / "python" / f"{name}.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert len(output.splitlines()) >= 2
    for words in SHOWN[name] if model == "minilm" else ():
        assert words in output


def test_code_retrieval_says_that_a_folder_has_no_code(tmp_path, tiny):
    command = [sys.executable, str(EXAMPLES / "python" / "code_retrieval.py"), str(tiny), str(tmp_path)]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 1
    assert failed.stderr == f"{tmp_path} has no Python file with a function or class. Name another folder.\n"


def test_the_matryoshka_example_uses_a_model_that_was_trained_for_smaller_sizes():
    source = (EXAMPLES / "python/matryoshka.py").read_text()
    [default] = re.findall(r'sys\.argv\[1\] if len\(sys\.argv\) > 1 else "(.+)"', source)
    entry = catalog.find(default)
    assert entry.smaller_dimensions
    *larger, least = (entry.dimensions, *entry.smaller_dimensions)
    assert f"{', '.join(map(str, larger))} and {least} dimensions" in source
