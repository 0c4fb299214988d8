"""Probes of vectors: each takes what was observed and says what it finds."""

import hashlib

import numpy as np

from embergem.models.head import Normalize
from embergem.selfcheck.context import CheckContext, Observed
from embergem.selfcheck.report import Finding

EXACT = 0.9999
"""A dtype that comes nearer to float32 than this cosine needs no word of warning."""
BROKEN = 0.95
"""A dtype that stays further away than this is not less precise but wrong."""

_DAMAGED = "The weights are damaged, or saved in a type that they overflow (float16 does in Gemma). Fetch them again"


def finite(context: CheckContext, seen: Observed) -> Finding:
    """No vector holds NaN or infinity."""
    name = "finite"
    if seen.fault:
        return Finding(name, "error", seen.fault, _DAMAGED)
    if not (np.isfinite(seen.together).all() and np.isfinite(seen.alone).all()):
        return Finding(name, "error", "a vector holds NaN or infinity", _DAMAGED)
    return Finding(name, "ok", f"{len(seen.rows)} vectors hold finite numbers only")


def norms(context: CheckContext, seen: Observed) -> Finding:
    """Vectors have length 1 where the head ends in normalisation, and some length everywhere."""
    name, lengths = "norms", np.linalg.norm(seen.together.astype(np.float64), axis=1)
    if any(isinstance(module, Normalize) for module in context.head or ()):
        off = float(np.abs(lengths - 1).max())
        if off > 1e-4:
            return Finding(
                name, "error", f"a vector has length {float(lengths[np.abs(lengths - 1).argmax()]):.4g} instead of 1",
                "The last layers give nothing that can be scaled to length 1: weights of zeros, or of another model",
            )  # fmt: skip
        return Finding(name, "ok", f"every vector has length 1, within {off:.0e}")
    if not (lengths > 0).all():
        return Finding(name, "error", "a vector is all zeros", "Weights of zeros, or of another model")
    if context.kin is not None and context.kin.dense:
        return Finding(
            name, "warn", f"vectors are not scaled to length 1 (lengths {lengths.min():.3g} to {lengths.max():.3g})",
            f"modules.json lacks the Normalize of {context.kin.id}; compare by cosine, not by dot product",
        )  # fmt: skip
    return Finding(name, "ok", "the model does not normalise; every vector has some length")


def batch_invariance(context: CheckContext, seen: Observed) -> Finding:
    """A text's vector is the same bits alone and in a batch."""
    name, alone = "batch_invariance", len(seen.alone)
    if np.array_equal(seen.alone, seen.together[:alone]):
        return Finding(name, "ok", "vectors are the same bits alone and in a batch")
    worst = float(np.abs(seen.alone - seen.together[:alone]).max())
    return Finding(
        name, "error", f"a vector changes by {worst:.1e} when other texts are beside it",
        "A kernel lets rows see each other; this is a fault of embergem or of the machine. Report it, and try "
        "another dtype meanwhile",
    )  # fmt: skip


def distinct(context: CheckContext, seen: Observed) -> Finding:
    """Different texts have different vectors."""
    unit = seen.together / np.maximum(np.linalg.norm(seen.together, axis=1, keepdims=True), 1e-12)
    likeness = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    highest = float(likeness.max(initial=-1.0))
    if highest > 1 - 1e-6:
        return Finding(
            "distinct", "error", f"two different texts have the same vector (cosine {highest:.7f})",
            "A layer gives the same for every input: weights of zeros, of another model, or a table of equal rows",
        )  # fmt: skip
    return Finding("distinct", "ok", f"different texts have different vectors (cosine at most {highest:.4f})")


def same_bits(seen: Observed, before: str) -> Finding:
    """Vectors are those of the whole check, to the bit."""
    if digest(seen) == before:
        return Finding("same_bits", "ok", "vectors are those of the whole check, to the bit")
    return Finding(
        "same_bits", "error", "vectors differ from those of the whole check of the same files",
        "A file changed without changing size or time, or disk or memory are failing. Check the files with "
        "`embergem models verify`, or fetch the model again",
    )  # fmt: skip


def digest(seen: Observed) -> str:
    """Sha256 of the vectors."""
    return hashlib.sha256(np.ascontiguousarray(seen.together).tobytes()).hexdigest()


def exactness(context: CheckContext) -> Finding:
    """How near the arithmetic in use comes to float32."""
    name, dtype, cosine = "exactness", context.dtype, context.cosine
    if dtype == "float32":
        return Finding(name, "ok", "float32 is the measure")
    said = f"{dtype} comes within a cosine of {cosine:.6f} of float32"
    if cosine < BROKEN:
        return Finding(name, "error", said, "This model cannot be computed in it; use dtype float32")
    if cosine < EXACT:
        return Finding(name, "warn", said, "Keep vectors of different dtypes apart, or use float32 or int16")
    return Finding(name, "ok", said)
