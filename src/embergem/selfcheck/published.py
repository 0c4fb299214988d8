"""The similarities that a model card publishes, computed with the weights at hand."""

import math
from collections.abc import Sequence

import numpy as np

from embergem.catalog import Entry
from embergem.checkpoint.files import sha256
from embergem.selfcheck.context import CheckContext, Vectors
from embergem.selfcheck.report import Finding
from embergem.selfcheck.settings import lacks_dense_layers
from embergem.selfcheck.texts import tokens
from embergem.types import pack


def golden(context: CheckContext) -> Finding:
    """The model gives the similarities that were published for it, where it has the published weights."""
    name, entry = "golden", context.entry
    if entry is None or entry.golden is None:
        return Finding(name, "ok", "no similarities are published for this model")
    if lacks_dense_layers(context) and context.dense_optional:
        return Finding(name, "ok", "without its dense layers the model has similarities of its own")
    published = np.array(entry.golden.similarities)
    queries = _embed(context, entry.golden.queries, entry.golden.query_task)
    documents = _embed(context, entry.golden.documents, entry.golden.document_task)
    off = float(np.abs(queries @ documents.T - published).max())
    if off <= entry.golden.tolerance + sway(context.cosine):
        return Finding(name, "ok", f"similarities are those published ({entry.golden.source}), within {off:.4f}")
    message = f"similarities differ by {off:.4f} from those published ({entry.golden.source})"
    if context.hub_id is None and not _pinned(context, entry):
        return Finding(
            name, "warn", message,
            f"Right for a fine-tune or a quantised copy: give it a name other than {context.name}, and it is not "
            f"compared. Otherwise these are not the weights of {entry.id}; fetch them with "
            f"`embergem models pull {entry.id}`",
        )  # fmt: skip
    return Finding(
        name, "error", message,
        f"These are not the weights of {entry.id}, or something about it is misread: window, dense layers, prompt. "
        f"Fetch it again with `embergem models pull {entry.id}`; a fine-tune is loaded from a directory of its own",
    )  # fmt: skip


def sway(cosine: float) -> float:
    """Return how far a similarity can move when each of its two vectors turns by arccos(`cosine`).

    The angle between them changes by twice that at most, and a cosine by 2 sin((a + b) / 2) sin(|a - b| / 2) from the
    angle a to b, which is then never more than 2 sin(arccos(`cosine`)).
    """
    return 2 * math.sqrt(max(0.0, 1 - cosine**2))


def _pinned(context: CheckContext, entry: Entry) -> bool:
    """Whether the weights are, to the byte, those that the catalog pins."""
    pins = [pin for pin in entry.files if pin.path.endswith(".safetensors")]
    return bool(pins) and all(
        any(
            path.as_posix().endswith(f"/{pin.path}") and path.stat().st_size == pin.size and pin.matches(sha256(path))
            for path in context.files
        )
        for pin in pins
    )


def _embed(context: CheckContext, texts: Sequence[str], task: str | None) -> Vectors:
    vectors = context.run(*pack([tokens(context, text, task) for text in texts]))
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
