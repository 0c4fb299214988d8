"""Public import path of `SentenceTransformer`: `from embergem.sentence_transformers import SentenceTransformer`."""

from embergem.compat.sentence_transformers import SentenceTransformer

__all__ = ["SentenceTransformer"]
