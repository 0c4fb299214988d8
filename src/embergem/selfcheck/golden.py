"""The similarities that a model card publishes, computed with the weights at hand."""

from collections.abc import Sequence

import numpy as np

from embergem.program.batch import packed
from embergem.selfcheck.report import Finding
from embergem.selfcheck.subject import Subject, Vectors
from embergem.selfcheck.texts import tokens


def golden(subject: Subject) -> Finding:
    """The model gives the similarities that were published for it."""
    name, entry = "golden", subject.entry
    if entry is None or entry.golden is None:
        return Finding(name, "ok", "no similarities are published for this model")
    published = np.array(entry.golden.similarities)
    queries = _embed(subject, entry.golden.queries, entry.golden.query_task)
    documents = _embed(subject, entry.golden.documents, entry.golden.document_task)
    off = float(np.abs(queries @ documents.T - published).max())
    if not off <= entry.golden.tolerance:
        return Finding(
            name, "error", f"similarities differ by {off:.4f} from those published ({entry.golden.source})",
            f"These are not the weights of {entry.id}, or something about it is misread: window, dense layers, prompt",
        )  # fmt: skip
    return Finding(name, "ok", f"similarities are those published ({entry.golden.source}), within {off:.4f}")


def _embed(subject: Subject, texts: Sequence[str], task: str | None) -> Vectors:
    vectors = subject.run(*packed([tokens(subject, text, task) for text in texts]))
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
