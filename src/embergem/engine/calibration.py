"""Load a model in a dtype, and compare its vectors with those of float32.

`crates/core/src/calibration.rs` measures the least cosine at the first load of a model's files, and the token budget of
a batch at the first large request. Both results are stored in the cache directory, where the Rust SDK finds them too.

Separate because it holds the bounds of each dtype, and `embergem compile` compares vectors without a load.
"""

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embergem._native import Model

LEAST_COSINE = 0.9999
"""`dtype="auto"` takes int16 only where its least cosine to float32 reaches this."""

EXPECTED_COSINE = {"bfloat16": 0.9999, "int16": LEAST_COSINE, "int8": 0.995}
"""Least cosine to float32 of each dtype; a model below it is loaded with a warning."""

log = logging.getLogger(__name__)


def load_as(
    dtype: str, load: Callable[[str], Model], measure: Callable[[Model], float], name: str
) -> tuple[Model, float]:
    """Load a model in the arithmetic `dtype`, one of `options.DTYPES`; return it and its least cosine to float32.

    Args:
        dtype: The arithmetic; "auto" chooses between int16 and float32 by the measured cosine.
        load: Loads the model in an arithmetic; called a second time, for float32, if "auto" chooses it.
        measure: Returns the least cosine of a model to float32.
        name: Name of the model, for log messages.
    """
    if dtype == "float32":
        return load("float32"), 1.0
    chosen = "int16" if dtype == "auto" else dtype
    model = load(chosen)
    cosine = measure(model)
    if cosine >= EXPECTED_COSINE[chosen]:
        return model, cosine
    if dtype == "auto":
        log.warning("%s: int16 has a cosine of only %.6f to float32; taking float32", name, cosine)
        return load("float32"), 1.0
    log.warning("%s: vectors in %s have a cosine of only %.6f to float32", name, chosen, cosine)
    return model, cosine


def cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each row of `a` with the same row of `b`, shape `(rows,)`, computed in float64.

    The cosine of a row of zeros is 0.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result: NDArray[np.float64] = np.sum(a * b, axis=1) / np.maximum(lengths, 1e-300)
    return result
