"""Probes of vectors."""

import hashlib

import numpy as np

from embergem.models.head import Normalize
from embergem.selfcheck.context import CheckContext, Observed
from embergem.selfcheck.report import PROBES, Finding, finding


def finite(context: CheckContext, seen: Observed) -> Finding:
    """No vector contains NaN or infinity."""
    if seen.fault:
        return finding("finite", "failed", reason=seen.fault)
    if not (np.isfinite(seen.together).all() and np.isfinite(seen.alone).all()):
        return finding("finite", "not_finite")
    return finding("finite", "finite", vectors=len(seen.rows))


def norms(context: CheckContext, seen: Observed) -> Finding:
    """Vectors have length 1 if the head ends in normalisation, and no vector is all zeros."""
    lengths = np.linalg.norm(seen.together.astype(np.float64), axis=1)
    if any(isinstance(module, Normalize) for module in context.head or ()):
        worst = float(lengths[np.abs(lengths - 1).argmax()])
        if abs(worst - 1) > PROBES.norm_tolerance:
            return finding("norms", "not_one", length=f"{worst:.4f}")
        return finding("norms", "one", difference=f"{abs(worst - 1):.7f}")
    if not (lengths > 0).all():
        return finding("norms", "zero")
    if context.kin is not None and context.kin.dense:
        least, most = f"{lengths.min():.4f}", f"{lengths.max():.4f}"
        return finding("norms", "not_normalised", least=least, most=most, model=context.kin.id)
    return finding("norms", "any")


def batch_invariance(context: CheckContext, seen: Observed) -> Finding:
    """The vector of a text has the same bits alone and in a batch."""
    alone = len(seen.alone)
    if np.array_equal(seen.alone, seen.together[:alone]):
        return finding("batch_invariance", "same")
    difference = float(np.abs(seen.alone - seen.together[:alone]).max())
    return finding("batch_invariance", "different", difference=f"{difference:.9f}")


def distinct(context: CheckContext, seen: Observed) -> Finding:
    """Different texts have different vectors."""
    vectors = seen.together.astype(np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    highest = float((unit @ unit.T)[np.triu_indices(len(unit), 1)].max(initial=-1.0))
    if highest > PROBES.equal_cosine:
        return finding("distinct", "equal", cosine=f"{highest:.7f}")
    return finding("distinct", "distinct", cosine=f"{highest:.4f}")


def same_bits(seen: Observed, before: str) -> Finding:
    """Vectors have the same bits as those of the whole check, whose digest is `before`."""
    return finding("same_bits", "same" if digest(seen) == before else "different")


def digest(seen: Observed) -> str:
    """Return the sha256 of the vectors, in hex."""
    return hashlib.sha256(np.ascontiguousarray(seen.together).tobytes()).hexdigest()


def exactness(context: CheckContext) -> Finding:
    """Vectors in the chosen dtype are near those in float32."""
    dtype, cosine = context.dtype, context.cosine
    if dtype == "float32":
        return finding("exactness", "float32")
    outcome = "broken" if cosine < PROBES.broken_cosine else "inexact" if cosine < PROBES.exact_cosine else "exact"
    return finding("exactness", outcome, dtype=dtype, cosine=f"{cosine:.6f}")
