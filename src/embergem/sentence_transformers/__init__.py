"""Public import path of the classes and functions with the interface of the library sentence-transformers.

The code is in `embergem.compat.sentence_transformers`.
"""

from typing import NoReturn

from embergem.compat.sentence_transformers import SentenceTransformer
from embergem.compat.sentence_transformers.tables import NAMES
from embergem.sentence_transformers import util
from embergem.sentence_transformers.util import SimilarityFunction, quantize_embeddings

__all__ = ["SentenceTransformer", "SimilarityFunction", "quantize_embeddings", "util"]


def __getattr__(name: str) -> NoReturn:
    """Refuse a name of that library with the reason why embergem does not have it."""
    if name in NAMES:
        # An ImportError, because `from embergem.sentence_transformers import CrossEncoder` hides an AttributeError.
        raise ImportError(f"embergem.sentence_transformers has no {name}: {NAMES[name].reason}.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
