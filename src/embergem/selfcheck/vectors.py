"""Probes of vectors."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from embergem.models.head import Normalize
from embergem.selfcheck.context import CheckContext, Observation
from embergem.selfcheck.report import PROBES, Finding, finding


def finite(context: CheckContext, observed: Observation) -> Finding:
    """No vector contains NaN or infinity."""
    if observed.fault:
        return finding("finite", "failed", reason=observed.fault)
    if not (np.isfinite(observed.together).all() and np.isfinite(observed.alone).all()):
        return finding("finite", "not_finite")
    return finding("finite", "finite", vectors=len(observed.rows))


def norms(context: CheckContext, observed: Observation) -> Finding:
    """Vectors have length 1 if the head ends in normalisation, and no vector is all zeros."""
    lengths = np.linalg.norm(observed.together.astype(np.float64), axis=1)
    if context.head and isinstance(context.head[-1], Normalize):
        worst = float(lengths[np.abs(lengths - 1).argmax()])
        if abs(worst - 1) > PROBES.norm_tolerance:
            return finding("norms", "not_one", length=f"{worst:.4f}")
        return finding("norms", "one", difference=f"{abs(worst - 1):.7f}")
    if not (lengths > 0).all():
        return finding("norms", "zero")
    if context.base is not None and context.base.dense:
        least, most = f"{lengths.min():.4f}", f"{lengths.max():.4f}"
        return finding("norms", "not_normalised", least=least, most=most, model=context.base.id)
    return finding("norms", "any")


def batch_invariance(context: CheckContext, observed: Observation) -> Finding:
    """The vector of a text has the same bits alone and in a batch."""
    alone = len(observed.alone)
    if np.array_equal(observed.alone, observed.together[:alone]):
        return finding("batch_invariance", "same")
    difference = float(np.abs(observed.alone - observed.together[:alone]).max())
    return finding("batch_invariance", "different", difference=f"{difference:.9f}")


def products(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scalar product of each row of `a` with each row of `b`, shape `(len(a), len(b))`.

    They are few. `@` would call OpenBLAS, which ends the process if the system refuses it memory.
    """
    result: NDArray[np.float64] = np.einsum("ik,jk->ij", a, b)
    return result


def distinct(context: CheckContext, observed: Observation) -> Finding:
    """Different texts have different vectors."""
    vectors = observed.together.astype(np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
    highest = float(products(unit, unit)[np.triu_indices(len(unit), 1)].max(initial=-1.0))
    if highest > PROBES.equal_cosine:
        return finding("distinct", "equal", cosine=f"{highest:.7f}")
    return finding("distinct", "distinct", cosine=f"{highest:.4f}")


def same_bits(observed: Observation, before: str) -> Finding:
    """Vectors have the same bits as those of the whole check, whose digest is `before`."""
    return finding("same_bits", "same" if digest(observed) == before else "different")


def digest(observed: Observation) -> str:
    """Return the sha256 of the vectors, in hex."""
    return hashlib.sha256(np.ascontiguousarray(observed.together).tobytes()).hexdigest()


def exactness(context: CheckContext) -> Finding:
    """Vectors in the chosen dtype are near those in float32."""
    dtype, cosine = context.dtype, context.cosine
    if dtype == "float32":
        return finding("exactness", "float32")
    outcome = "broken" if cosine < PROBES.broken_cosine else "inexact" if cosine < PROBES.exact_cosine else "exact"
    return finding("exactness", outcome, dtype=dtype, cosine=f"{cosine:.6f}")
