"""Entries of the catalog for models of the tests."""

from embergem.catalog import Entry

UNREAD = {
    "aliases": (),
    "limit": 128,
    "parameters": 0.1,
    "licence": "none",
    "licence_url": "https://example.org",
    "languages": "none",
    "notes": "A test.",
}


def entry(name, family, dimensions, **fields):
    """An entry; what most tests don't read need not be given."""
    return Entry(id=name, family=family, dimensions=dimensions, **UNREAD | fields)
