"""What `import embergem` offers: the names, each documented, each with examples that run."""

import doctest
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import embergem

ROOT = Path(__file__).parents[1]


def test_names_are_sorted_and_there():
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
def test_public_things_are_documented(name):
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


def test_the_reference_is_what_the_docstrings_say():
    command = [sys.executable, str(ROOT / "scripts" / "api_reference.py"), "--check"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "docs/api.md is stale: make api"
