"""The package imports on Windows and macOS: no module of one system is imported where another one would fail.

`make check` runs mypy for both systems, which finds functions and constants that they lack.
"""

import ast
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from embergem import paths
from embergem.hub import model_cache

SOURCE = Path(__file__).parents[1] / "src" / "embergem"
POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
GUARDED = {("free_memory.py", "resource"), ("server/connections.py", "resource")}
"""Imports inside a function that returns before them on Windows; mypy for win32 checks that it does."""


def test_modules_that_windows_lacks_are_imported_behind_a_guard_only():
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {(path.relative_to(SOURCE).as_posix(), name) for name in names if name in POSIX}
    assert found == GUARDED


@pytest.mark.parametrize("platform", ["win32", "linux"])
def test_an_old_version_that_a_process_has_loaded_stays_on_windows(tmp_path, monkeypatch, platform):
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    home = paths.model_directory("org/model")
    (home / "old").mkdir(parents=True)
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    (fetched / "config.json").write_text("{}")

    def in_use(directory):
        raise PermissionError(f"{directory} is in use")

    monkeypatch.setattr(model_cache, "shutil", SimpleNamespace(rmtree=in_use))
    monkeypatch.setattr(model_cache, "sys", SimpleNamespace(platform=platform))
    if platform == "win32":
        model_cache.store(fetched, model="org/model", source="hub", revision=None)
        assert (home / "old").is_dir()
    else:
        with pytest.raises(PermissionError):
            model_cache.store(fetched, model="org/model", source="hub", revision=None)
    assert model_cache.find("org/model") is not None
    shutil.rmtree(home)
