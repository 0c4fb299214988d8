"""Give each test of the self-check its own catalog and cache."""

import pytest

from embergem import catalog


@pytest.fixture
def own_catalog(tmp_path, monkeypatch, in_catalog):
    """Set the catalog to the entries of the fixture `in_catalog`, and use an empty cache."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "CATALOG", in_catalog)
