"""Makes catalog entries for models of tests."""

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
    """Return an entry; fields that most tests do not read have defaults."""
    return Entry(id=name, family=family, dimensions=dimensions, **UNREAD | fields)
