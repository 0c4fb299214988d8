"""A class with the interface of `sentence_transformers.SentenceTransformer`."""

from embergem.compat.sentence_transformers.model import SentenceTransformer as SentenceTransformer
