"""Forms in which vectors are stored, and the similarities and searches that each form allows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from embergem.errors import UnsupportedOption
from embergem.sdk.outputs import Output, convert
from embergem.suggestions import did_you_mean
from embergem.types import Vectors

Places = NDArray[np.int64]
"""Places of documents in the list of all documents."""

BLOCK_VALUES = 1 << 24
"""Values of a block of scores or of converted vectors: 64 MiB as float32."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A form in which vectors are stored.

    Attributes:
        name: Name in reports and on the command line.
        form: Form of the vectors that a search compares, as in `Embedder.embed`. Queries have the same form.
        kept: Form of the vectors that are kept beside them. The best candidates are scored again with these and with
            the float32 vector of the query. None keeps nothing, and the ranking of the search is the result.
    """

    name: str
    form: Output
    kept: Output | None = None

    def searched_bytes(self, dimensions: int) -> int:
        """Return the bytes of a vector that a search reads."""
        return _bytes(self.form, dimensions)

    def kept_bytes(self, dimensions: int) -> int:
        """Return the bytes of a vector that is kept to score candidates again; 0 if nothing is kept."""
        return 0 if self.kept is None else _bytes(self.kept, dimensions)


FULL = Storage("float32", "array")
"""The form that all others are compared with."""

STORAGE: Mapping[str, Storage] = {
    storage.name: storage
    for storage in (
        FULL,
        Storage("float16", "float16"),
        Storage("int8", "int8"),
        Storage("binary", "binary"),
        Storage("binary+int8", "binary", "int8"),
        Storage("binary+float32", "binary", "array"),
    )
}
"""All forms by name, largest first; `a+b` searches with a and scores the candidates again with b."""

COMPARED = ("float32", "int8", "binary", "binary+int8")
"""The forms that are compared by default; pairs have no candidates, so `+` does not apply to them."""


def storage_named(name: str) -> Storage:
    """Return the form of this name.

    Raises:
        UnsupportedOption: There is no such form.
    """
    if name not in STORAGE:
        raise UnsupportedOption(
            f"storage={name} is no form of stored vectors.{did_you_mean(name, STORAGE)} Choose from: "
            f"{', '.join(STORAGE)}.",
            param="storage",
        )
    return STORAGE[name]


def pair_similarities(vectors: Vectors, first: Places, second: Places, form: Output) -> Vectors:
    """Return the cosine of each pair of vectors as they are stored.

    Args:
        vectors: float32 (n, d).
        first: Place in `vectors` of the first vector of each pair, (pairs,).
        second: Place in `vectors` of the second vector of each pair, (pairs,).
        form: Form in which the vectors are stored.

    Returns:
        float32 (pairs,).
    """
    stored = stored_vectors(vectors, form)
    found = np.empty(len(first), dtype=np.float32)
    for part in _blocks(len(first), 2 * vectors.shape[1]):
        found[part] = np.einsum("nd,nd->n", stored[first[part]], stored[second[part]])
    return found / np.float32(vectors.shape[1]) if form == "binary" else found


def search(queries: Vectors, documents: Vectors, storage: Storage, depth: int, candidates: int) -> list[Places]:
    """Return the places of the `depth` best documents of each query, best first.

    Of documents with equal scores the earlier one is first.

    Args:
        queries: float32 (q, d).
        documents: float32 (n, d).
        storage: How the documents are stored.
        depth: Number of documents to find for each query.
        candidates: Number of documents that are scored again, if `storage` keeps vectors for that.
    """
    if storage.kept is None:
        return best(queries, documents, storage.form, depth)
    unit, found = stored_vectors(queries, "array"), []
    for query, places in zip(unit, best(queries, documents, storage.form, max(candidates, depth)), strict=True):
        again = stored_vectors(documents[places], storage.kept) @ query
        found.append(places[np.lexsort((places, -again))][:depth])
    return found


def best(queries: Vectors, documents: Vectors, form: Output, depth: int) -> list[Places]:
    """Return the places of the `depth` documents with the largest cosine to each query, by their stored form.

    Both are compared block by block, so no more than `BLOCK_VALUES` scores and converted values are in memory.
    """
    asked = stored_vectors(queries, form)
    scores = [np.empty(0, dtype=np.float32)] * len(asked)
    places = [np.empty(0, dtype=np.int64)] * len(asked)
    for part in _blocks(len(documents), documents.shape[1]):
        stored = stored_vectors(documents[part], form)
        for rows in _blocks(len(asked), len(stored)):
            for query, found in zip(range(rows.start, rows.stop), asked[rows] @ stored.T, strict=True):
                joined = np.concatenate([scores[query], found])
                order = _largest(joined, depth)
                numbers = np.concatenate([places[query], np.arange(part.start, part.stop)])
                scores[query], places[query] = joined[order], numbers[order]
    return places


def stored_vectors(vectors: Vectors, form: Output) -> Vectors:
    """Return vectors as their stored form gives them back, scaled to length 1: float32 (n, d).

    Bits become ±1 and are not scaled, so products are whole numbers and equal distances give equal scores. A vector of
    zeros stays one.
    """
    values = cast("NDArray[np.generic]", convert(vectors, form))
    if form == "binary":
        bits = np.unpackbits(cast("NDArray[np.uint8]", values), axis=1, count=vectors.shape[1])
        signs: Vectors = bits.astype(np.float32) * 2 - 1
        return signs
    numbers = values.astype(np.float32)
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)
    unit: Vectors = numbers / np.maximum(lengths, np.float32(1e-30))
    return unit


def _largest(scores: Vectors, count: int) -> Places:
    """Return the places of the `count` largest scores, largest first; equal scores stay in order."""
    if len(scores) <= count:
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    order = above[np.argsort(-scores[above], kind="stable")]
    return np.concatenate([order, equal[: count - len(above)]])


def _blocks(count: int, width: int) -> Iterator[slice]:
    step = max(1, BLOCK_VALUES // max(width, 1))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _bytes(form: Output, dimensions: int) -> int:
    return {"array": 4 * dimensions, "float16": 2 * dimensions, "int8": dimensions, "binary": -(-dimensions // 8)}[form]
