"""Tests have their own cache and environment, and the fixture finds a test that changes environment variables."""

import os
import subprocess
import sys

import pytest
from isolation import CACHE, unchanged_environment

from embergem import paths

NEW = "EMBERGEM_ISOLATION_TEST"


def test_the_cache_is_not_the_users():
    assert paths.cache_root() == CACHE
    code = "from embergem import paths; print(paths.cache_root())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str(CACHE)


@pytest.mark.parametrize(("name", "value"), [(NEW, "set"), ("EMBERGEM_CACHE", "changed"), ("EMBERGEM_CACHE", None)])
def test_a_changed_variable_is_reported_and_restored(name, value):
    before = os.environ.get(name)

    def leak():
        with unchanged_environment():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    with pytest.raises(pytest.fail.Exception, match=f"left these environment variables changed: {name}$"):
        leak()
    assert os.environ.get(name) == before


def test_a_variable_that_is_changed_back_is_not_reported():
    with unchanged_environment(), pytest.MonkeyPatch.context() as patch:
        patch.setenv(NEW, "set")
        patch.delenv("EMBERGEM_CACHE")
