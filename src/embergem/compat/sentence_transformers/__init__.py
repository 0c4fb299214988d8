"""The class `SentenceTransformer` of the library of that name, on this engine."""

from embergem.compat.sentence_transformers.model import SentenceTransformer as SentenceTransformer
