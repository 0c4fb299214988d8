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


def tiny_gemma(name="example/gemma", **fields):
    """Return what a catalog would have about the golden `gemma3_text`; `fields` replace parts of it."""
    known = {
        "prompts": "embeddinggemma",
        "window": 16,
        "dense": 2,
        "opening": 2,
        "closing": 1,
        "config": {"radius": 8},
    }
    return entry(name, "gemma3_text", 96, **known | fields)
