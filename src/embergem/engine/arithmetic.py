"""The arithmetics a model can be computed in, loading it in one of them, and how near it then is to float32."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from embergem._native import Model
from embergem.engine.exactness import LEAST_COSINE, cosine

DTYPES = {
    "float32": "exact to a few units in the last place",
    "bfloat16": "float32 arithmetic, weights in half the memory; lossless where the checkpoint holds bfloat16",
    "int16": "fastest, weights in half the memory, near lossless",
    "int8": "weights in a third of the memory, a little less exact",
    "auto": f"int16 where that was measured to come within a cosine of {LEAST_COSINE} of float32, else float32",
}
"""What `dtype` may be, and what each is."""

EXPECTED = {"bfloat16": 0.9999, "int16": LEAST_COSINE, "int8": 0.995}
"""Least cosine to float32 that passes without a word."""

log = logging.getLogger(__name__)


def load_as(
    dtype: str, load: Callable[[str], Model], weights: Sequence[tuple[str, Path]], name: str
) -> tuple[Model, float]:
    """Load in the wanted arithmetic; return the model and its least cosine to float32 (measured once for its files)."""
    if dtype == "float32":
        return load("float32"), 1.0
    wanted = "int16" if dtype == "auto" else dtype
    model = load(wanted)
    exact = cache(lambda: load("float32"))
    least = cosine(weights, exact, model)
    if least >= EXPECTED[wanted]:
        return model, least
    if dtype == "auto":
        log.warning("%s: int16 has a cosine of only %.6f to float32; taking float32", name, least)
        return exact(), 1.0
    log.warning("%s: vectors in %s have a cosine of only %.6f to float32", name, wanted, least)
    return model, least
