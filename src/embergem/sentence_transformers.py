"""Public import path of `SentenceTransformer`.

Separate because the path `embergem.sentence_transformers` is public and the code is in `embergem.compat`.
"""

from embergem.compat.sentence_transformers import SentenceTransformer

__all__ = ["SentenceTransformer"]
