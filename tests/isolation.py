"""Keep tests away from the user's cache and settings, and from each other's environment variables."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from embergem import catalog, paths

ASSETS = Path(os.environ.get("EMBERGEM_ASSETS") or Path.home() / ".cache" / "embergem-assets")
CACHE = ASSETS / "cache"
"""embergem's cache for all tests. It is kept, because packing and hashing the large assets takes minutes."""


def use_own_cache():
    """Let `CACHE` be embergem's cache in this process and in those that it starts, and drop the user's settings.

    The default model is copied from the user's cache if that has it, so that it is not downloaded again.
    """
    users = paths.model_directory(catalog.DEFAULT)
    for name in [name for name in os.environ if name.startswith("EMBERGEM_") and name != "EMBERGEM_ASSETS"]:
        del os.environ[name]
    os.environ["EMBERGEM_CACHE"] = str(CACHE)
    own = paths.model_directory(catalog.DEFAULT)
    if users.is_dir() and not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=own.parent, prefix=".copying-") as scratch:
            copied = shutil.copytree(users, Path(scratch) / own.name)
            try:
                copied.rename(own)
            except OSError:
                if not own.exists():  # else another test process was faster
                    raise


@contextmanager
def unchanged_environment():
    """Fail if the body changes environment variables and does not change them back; the old values are restored."""
    before = dict(os.environ)
    try:
        yield
    finally:
        after = dict(os.environ)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        changed.discard("PYTEST_CURRENT_TEST")  # pytest sets it for each phase of a test
        for name in changed:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
    if changed:
        pytest.fail(f"the test left these environment variables changed: {', '.join(sorted(changed))}", pytrace=False)
