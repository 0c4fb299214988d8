"""The public API of `import embergem`: names, documentation, and examples that run."""

import ast
import doctest
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from public import PUBLIC

import embergem

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_import_paths(module):
    path = ROOT.joinpath("src", *module.split(".")).with_suffix(".py")
    if module.startswith("embergem.integrations."):
        # The libraries of the integrations are installed in another environment, so the names are read from the source.
        defined = {
            node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }
    else:
        defined = set(dir(importlib.import_module(module)))
    assert set(PUBLIC[module]) <= defined


def test_the_lists_of_public_names_are_complete():
    assert PUBLIC["embergem"] == embergem.__all__
    for module in ("embergem.sentence_transformers", "embergem.sentence_transformers.util"):
        assert PUBLIC[module] == importlib.import_module(module).__all__
    found = {
        name
        for name, value in vars(embergem.errors).items()
        if inspect.isclass(value) and issubclass(value, embergem.EmbergemError | Warning)
    }
    assert found == set(PUBLIC["embergem.errors"])
    integrations = {
        f"embergem.integrations.{path.stem}" for path in (ROOT / "src/embergem/integrations").glob("[a-z]*.py")
    }
    assert integrations == {module for module in PUBLIC if module.startswith("embergem.integrations.")}


def test_a_client_is_an_embedder():
    assert issubclass(embergem.Client, embergem.Embedder)
    assert issubclass(embergem.AsyncClient, embergem.AsyncEmbedder)


def test_public_names_are_sorted_and_exist():
    assert embergem.__all__ == sorted(embergem.__all__)
    for name in embergem.__all__:
        assert getattr(embergem, name) is not None
    assert dir(embergem) == embergem.__all__
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        embergem.Embeder  # noqa: B018


def test_versions_agree():
    from importlib.metadata import version

    from embergem import _native

    assert embergem.__version__ == _native.__version__ == version("embergem")


@pytest.mark.parametrize("name", [name for name in embergem.__all__ if name != "__version__"])
def test_public_names_are_documented(name):
    thing = getattr(embergem, name)
    assert inspect.getdoc(thing)
    if not inspect.isclass(thing):
        return
    for member, value in vars(thing).items():
        if not member.startswith("_") and (callable(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{member} has no docstring"


MODULES = sorted(
    str(path.relative_to(ROOT / "src").with_suffix("")).replace(os.sep, ".")
    for path in (ROOT / "src" / "embergem").rglob("*.py")
    if path.name != "__main__.py" and path.parent.name != "integrations" and ">>>" in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_api_reference_is_current():
    command = [sys.executable, str(ROOT / "scripts" / "api_reference.py"), "--check"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "docs/api.md is stale: make api"
