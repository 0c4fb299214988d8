"""The probe of published similarities: a model card gives them, and the loaded weights must reproduce them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embergem.catalog import Entry, Golden
from embergem.checkpoint.files import sha256
from embergem.selfcheck.context import CheckContext
from embergem.selfcheck.report import Finding, finding
from embergem.selfcheck.settings import lacks_dense_layers
from embergem.selfcheck.texts import tokens
from embergem.selfcheck.vectors import products
from embergem.types import pack


def golden(context: CheckContext) -> Finding:
    """The model gives the similarities that were published for it, if it has the published weights."""
    entry = context.entry
    if entry is None or entry.golden is None:
        return finding("golden", "unpublished")
    if lacks_dense_layers(context) and context.dense_optional:
        return finding("golden", "without_dense")
    off = float(np.abs(similarities(context, entry.golden) - np.array(entry.golden.similarities)).max())
    values = {"source": entry.golden.source, "difference": f"{off:.4f}", "model": entry.id, "name": context.name}
    if off <= entry.golden.tolerance + sway(context.cosine):
        return finding("golden", "same", **values)
    renamed = context.hub_id is None and not _pinned(context, entry)
    return finding("golden", "renamed" if renamed else "different", **values)


def similarities(context: CheckContext, published: Golden) -> NDArray[np.float64]:
    """Return the cosine similarities of the published queries and documents, shape `(queries, documents)`."""
    queries = _embed(context, published.queries, published.query_task)
    documents = _embed(context, published.documents, published.document_task)
    return products(queries, documents)


def sway(cosine: float) -> float:
    """Return how far the cosine of two vectors can change when each vector turns by the angle arccos(`cosine`).

    The angle between the vectors changes from a to b, by at most twice that angle. The cosine then changes by
    2 sin((a + b) / 2) sin(|a - b| / 2), which is at most 2 sin(arccos(`cosine`)).
    """
    return 2 * math.sqrt(max(0.0, 1 - cosine**2))


def _pinned(context: CheckContext, entry: Entry) -> bool:
    """Return whether the weights have the bytes that the catalog pins."""
    pins = [pin for pin in entry.files if pin.path.endswith(".safetensors")]
    return bool(pins) and all(
        any(
            path.as_posix().endswith(f"/{pin.path}") and path.stat().st_size == pin.size and pin.matches(sha256(path))
            for path in context.files
        )
        for pin in pins
    )


def _embed(context: CheckContext, texts: Sequence[str], task: str | None) -> NDArray[np.float64]:
    vectors = context.run(*pack([tokens(context, text, task) for text in texts])).astype(np.float64)
    unit: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    return unit
