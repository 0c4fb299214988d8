"""Similarities of vectors, as `sentence_transformers.util` has them: by cosine, dot product and distance.

Vectors are arrays, tensors or lists. The result is a torch tensor if an argument is one, and a NumPy array otherwise.
Distances are negative, so that a larger value is always more similar.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.compat.sentence_transformers.arrays import like, to_array, to_matrix
from embergem.keywords import checked_keywords

Similarity = Callable[[Any, Any], Any]


@checked_keywords
def cos_sim(a: Any, b: Any) -> Any:
    """Return the cosine of each row of `a` (n, d) with each row of `b` (m, d), as float32 (n, m).

    Example:
        >>> from embergem.sentence_transformers.util import cos_sim
        >>> cos_sim([[1.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]])
        array([[1., 0.]], dtype=float32)
    """
    return like(_unit(to_matrix(a)) @ _unit(to_matrix(b)).T, a, b)


@checked_keywords
def pytorch_cos_sim(a: Any, b: Any) -> Any:
    """Return `cos_sim(a, b)`, under its older name."""
    return cos_sim(a, b)


@checked_keywords
def dot_score(a: Any, b: Any) -> Any:
    """Return the dot product of each row of `a` (n, d) with each row of `b` (m, d), as float32 (n, m)."""
    return like(to_matrix(a) @ to_matrix(b).T, a, b)


@checked_keywords
def euclidean_sim(a: Any, b: Any) -> Any:
    """Return the negative Euclidean distance of each row of `a` (n, d) to each row of `b` (m, d), as float32 (n, m)."""
    return like(_distances(to_matrix(a), to_matrix(b), 2), a, b)


@checked_keywords
def manhattan_sim(a: Any, b: Any) -> Any:
    """Return the negative sum of absolute differences of each pair of rows of `a` and `b`, as float32 (n, m)."""
    return like(_distances(to_matrix(a), to_matrix(b), 1), a, b)


@checked_keywords
def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """Return the cosine of each row of `a` (n, d) with the same row of `b` (n, d), as float32 (n,)."""
    return like(np.einsum("nd,nd->n", _unit(to_matrix(a)), _unit(to_matrix(b))), a, b)


@checked_keywords
def pairwise_dot_score(a: Any, b: Any) -> Any:
    """Return the dot product of each row of `a` (n, d) with the same row of `b` (n, d), as float32 (n,)."""
    return like(np.einsum("nd,nd->n", to_matrix(a), to_matrix(b)), a, b)


@checked_keywords
def pairwise_euclidean_sim(a: Any, b: Any) -> Any:
    """Return the negative Euclidean distance of each row of `a` (n, d) to the same row of `b`, as float32 (n,)."""
    return like(-np.linalg.norm(to_matrix(a) - to_matrix(b), axis=1), a, b)


@checked_keywords
def pairwise_manhattan_sim(a: Any, b: Any) -> Any:
    """Return the negative sum of absolute differences of each row of `a` and the same row of `b`, as float32 (n,)."""
    return like(-np.abs(to_matrix(a) - to_matrix(b)).sum(axis=1), a, b)


@checked_keywords
def normalize_embeddings(embeddings: Any) -> Any:
    """Scale each row of an array (n, d) to length 1."""
    return like(_unit(to_matrix(embeddings)), embeddings)


@checked_keywords
def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """Return the first `truncate_dim` components of each vector, without scaling them again; None keeps all."""
    return like(to_array(embeddings)[..., :truncate_dim], embeddings)


class SimilarityFunction(Enum):
    """The functions that `SentenceTransformer.similarity` can use.

    >>> SimilarityFunction.possible_values()
    ['cosine', 'dot', 'euclidean', 'manhattan']
    """

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(similarity_function: "str | SimilarityFunction") -> Similarity:
        """Return the function from (n, d) and (m, d) to (n, m)."""
        return _MATRIX[SimilarityFunction(similarity_function)]

    @staticmethod
    def to_similarity_pairwise_fn(similarity_function: "str | SimilarityFunction") -> Similarity:
        """Return the function from (n, d) and (n, d) to (n,)."""
        return _PAIRWISE[SimilarityFunction(similarity_function)]

    @staticmethod
    def possible_values() -> list[str]:
        """Return the names of the functions."""
        return [function.value for function in SimilarityFunction]


_MATRIX: dict[SimilarityFunction, Similarity] = {
    SimilarityFunction.COSINE: cos_sim,
    SimilarityFunction.DOT: dot_score,
    SimilarityFunction.EUCLIDEAN: euclidean_sim,
    SimilarityFunction.MANHATTAN: manhattan_sim,
}
_PAIRWISE: dict[SimilarityFunction, Similarity] = {
    SimilarityFunction.COSINE: pairwise_cos_sim,
    SimilarityFunction.DOT: pairwise_dot_score,
    SimilarityFunction.EUCLIDEAN: pairwise_euclidean_sim,
    SimilarityFunction.MANHATTAN: pairwise_manhattan_sim,
}


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return unit


def _distances(a: NDArray[np.float32], b: NDArray[np.float32], order: int) -> NDArray[np.float32]:
    # One row at a time: the differences of all pairs at once would need n * m * d numbers.
    found = np.empty((len(a), len(b)), dtype=np.float32)
    for index, row in enumerate(a):
        found[index] = -np.linalg.norm(b - row, ord=order, axis=1)
    return found
