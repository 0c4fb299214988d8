"""A catalog and a cache of their own for tests of the self-check."""

import pytest

from embergem import catalog


@pytest.fixture
def own_catalog(tmp_path, monkeypatch, in_catalog):
    """The catalog has what the module's fixture `in_catalog` gives, and the cache has no notes of earlier checks."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "CATALOG", in_catalog)
