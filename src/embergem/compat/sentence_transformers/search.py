"""Search in vectors, as `sentence_transformers.util` has it: nearest vectors, similar pairs, and clusters."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embergem.compat.sentence_transformers.arrays import blocks, to_array, to_matrix
from embergem.compat.sentence_transformers.similarity import cos_sim
from embergem.keywords import checked_keywords

if TYPE_CHECKING:
    from embergem.compat.sentence_transformers.model import SentenceTransformer

Score = Callable[[Any, Any], Any]


@checked_keywords
def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Score = cos_sim,
) -> list[list[dict[str, int | float]]]:
    """Return the nearest vectors of the corpus for each query, best first.

    Args:
        query_embeddings: Vectors (n, d), or one vector (d,).
        corpus_embeddings: Vectors (m, d).
        query_chunk_size: Queries that are compared at a time; it bounds the memory.
        corpus_chunk_size: Rows of the corpus that are compared at a time; it bounds the memory.
        top_k: Most results of a query.
        score_function: Similarity of (n, d) with (m, d) as (n, m).

    Returns:
        For each query, a list of {"corpus_id": row, "score": similarity}.

    Example:
        >>> from embergem.sentence_transformers.util import semantic_search
        >>> semantic_search([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], top_k=1)
        [[{'corpus_id': 1, 'score': 1.0}]]
    """
    queries, corpus = to_matrix(query_embeddings), to_matrix(corpus_embeddings)
    found: list[list[dict[str, int | float]]] = []
    for query_rows in blocks(len(queries), query_chunk_size):
        scores, ids = _nearest(queries[query_rows], corpus, top_k, corpus_chunk_size, score_function)
        for row_scores, row_ids in zip(scores.tolist(), ids.tolist(), strict=True):
            pairs = zip(row_ids, row_scores, strict=True)
            found.append([{"corpus_id": index, "score": score} for index, score in pairs])
    return found


@checked_keywords
def paraphrase_mining(
    model: "SentenceTransformer",
    sentences: Sequence[str],
    show_progress_bar: bool = False,
    batch_size: int = 32,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: Score = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[float | int]]:
    """Embed sentences and return the most similar pairs; see `paraphrase_mining_embeddings`."""
    vectors = model.encode(
        sentences,
        prompt_name=prompt_name,
        prompt=prompt,
        batch_size=batch_size,
        show_progress_bar=show_progress_bar,
        truncate_dim=truncate_dim,
    )
    return paraphrase_mining_embeddings(vectors, query_chunk_size, corpus_chunk_size, max_pairs, top_k, score_function)


@checked_keywords
def paraphrase_mining_embeddings(
    embeddings: Any,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: Score = cos_sim,
) -> list[list[float | int]]:
    """Return the most similar pairs of vectors, best first.

    Args:
        embeddings: Vectors (n, d).
        query_chunk_size: Rows that are compared at a time; it bounds the memory.
        corpus_chunk_size: Rows that they are compared with at a time; it bounds the memory.
        max_pairs: Most pairs to return.
        top_k: Each vector is paired with at most this many others, the nearest.
        score_function: Similarity of (n, d) with (m, d) as (n, m).

    Returns:
        [score, i, j] of each pair, with i < j.

    Example:
        >>> from embergem.sentence_transformers.util import paraphrase_mining_embeddings
        >>> paraphrase_mining_embeddings([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], top_k=1)[0]
        [1.0, 0, 2]
    """
    vectors = to_matrix(embeddings)
    best: dict[tuple[int, int], float] = {}
    for query_rows in blocks(len(vectors), query_chunk_size):
        # One more than top_k, because each vector is its own nearest.
        scores, ids = _nearest(vectors[query_rows], vectors, top_k + 1, corpus_chunk_size, score_function)
        for place, (row_scores, row_ids) in enumerate(zip(scores.tolist(), ids.tolist(), strict=True)):
            row = query_rows.start + place
            others = [(score, other) for score, other in zip(row_scores, row_ids, strict=True) if other != row]
            best |= {(min(row, other), max(row, other)): score for score, other in others[:top_k]}
    ordered = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:max_pairs]
    return [[score, first, second] for (first, second), score in ordered]


@checked_keywords
def community_detection(
    embeddings: Any,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Group vectors whose cosine to a central vector is at least `threshold`.

    Args:
        embeddings: Vectors (n, d).
        threshold: Least cosine of a member to the central vector.
        min_community_size: Smaller groups are left out.
        batch_size: Rows that are compared at a time.
        show_progress_bar: Without effect: the search shows no progress.

    Returns:
        Rows of each group, the largest group first. A row is in at most one group.
    """
    vectors = to_array(embeddings)
    groups: list[NDArray[np.intp]] = []
    for rows in blocks(len(vectors), batch_size):
        for scores in np.asarray(cos_sim(vectors[rows], vectors)):
            members = np.flatnonzero(scores >= threshold)
            if len(members) >= min_community_size:
                groups.append(members[np.argsort(-scores[members], kind="stable")])
    groups.sort(key=len, reverse=True)
    taken: set[int] = set()
    chosen: list[list[int]] = []
    for group in groups:
        free = [member for member in group.tolist() if member not in taken]
        if len(free) >= min_community_size:
            chosen.append(free)
            taken.update(free)
    return sorted(chosen, key=len, reverse=True)


def _nearest(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], top: int, chunk: int, score_function: Score
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return scores and rows (n, top) of the nearest vectors of the corpus, best first; equal scores by row."""
    kept_scores = np.empty((len(queries), 0), dtype=np.float32)
    kept_ids = np.empty((len(queries), 0), dtype=np.intp)
    for rows in blocks(len(corpus), chunk):
        scores = np.asarray(score_function(queries, corpus[rows]), dtype=np.float32)
        ids = np.broadcast_to(np.arange(rows.start, rows.stop), scores.shape)
        if scores.shape[1] > top:
            part = np.argpartition(-scores, top - 1, axis=1)[:, :top]
            scores, ids = np.take_along_axis(scores, part, axis=1), np.take_along_axis(ids, part, axis=1)
        kept_scores, kept_ids = np.hstack([kept_scores, scores]), np.hstack([kept_ids, ids])
        order = np.lexsort((kept_ids, -kept_scores), axis=1)[:, :top]
        kept_scores = np.take_along_axis(kept_scores, order, axis=1)
        kept_ids = np.take_along_axis(kept_ids, order, axis=1)
    return kept_scores, kept_ids
