"""What is measured of a model when its files are loaded for the first time: its exactness and its best batch size.

Both results are remembered beside the state of the weight files (see `hub.file_state`), so later loads measure nothing.

Exactness is the least cosine between vectors of the model in the chosen arithmetic and in float32. The batch size is a
trade-off: a larger batch reads the weights less often, but delays the requests behind it. So the token budget of a
batch is the smallest size whose rate is near the best.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embergem._native import Model, __version__
from embergem.hub import file_state
from embergem.types import pack

LEAST_COSINE = 0.9999
"""`dtype="auto"` takes int16 only where its least cosine to float32 reaches this."""

EXPECTED_COSINE = {"bfloat16": 0.9999, "int16": LEAST_COSINE, "int8": 0.995}
"""Least cosine to float32 of each dtype; a model below it is loaded with a warning."""

EXACTNESS_ROWS = (3, 17, 40, 64, 90, 128)
"""Lengths in tokens of the random rows that exactness is measured with."""

BATCH_SIZES = (1024, 2048, 4096)
"""Token budgets of a batch that are tried, smallest first. With fewer tokens than the first, the rows of a large model
do not go through its layers in blocks, which costs a sixteenth of the rate; see `crates/core/src/run/row_blocks.rs`."""

NEAR_BEST = 0.97
"""Share of the best rate from which on a batch size is good enough."""

SLOW_BATCH = 0.5
"""Seconds of a batch from which on no larger one is tried: its reading of the weights is a small part of the time."""

BATCH_ROW = 128
"""Tokens of each row of the batches that are timed."""

log = logging.getLogger(__name__)


def load_as(
    dtype: str, load: Callable[[str], Model], weights: Sequence[tuple[str, Path]], name: str
) -> tuple[Model, float]:
    """Load a model in the arithmetic `dtype`, one of `options.DTYPES`; return it and its least cosine to float32.

    Args:
        dtype: The arithmetic; "auto" chooses between int16 and float32 by the measured cosine.
        load: Loads the model in an arithmetic; called a second time, for float32, where a measurement needs it.
        weights: Prefix and path of the weight files, by whose state the measurement is remembered.
        name: Name of the model, for log messages.
    """
    if dtype == "float32":
        return load("float32"), 1.0
    chosen = "int16" if dtype == "auto" else dtype
    model = load(chosen)
    load_exact = cache(lambda: load("float32"))
    cosine = least_cosine(model, load_exact, weights)
    if cosine >= EXPECTED_COSINE[chosen]:
        return model, cosine
    if dtype == "auto":
        log.warning("%s: int16 has a cosine of only %.6f to float32; taking float32", name, cosine)
        return load_exact(), 1.0
    log.warning("%s: vectors in %s have a cosine of only %.6f to float32", name, chosen, cosine)
    return model, cosine


def least_cosine(model: Model, load_exact: Callable[[], Model], weights: Sequence[tuple[str, Path]]) -> float:
    """Return the least cosine between vectors of `model` and of its float32 form over a fixed set of random rows.

    `load_exact` loads the float32 form; it is called only where no measurement of these files is remembered.
    """
    note = file_state.note_path(weights, "exactness", f"{__version__}-{model.dtype}-{model.instruction_set}")
    try:
        return float(note.read_text())
    except (OSError, ValueError):  # not measured yet, or a half-written note, which is replaced
        log.debug("measuring how exact %s is", model.dtype)
    random = np.random.default_rng(0)
    ids = random.integers(0, model.vocab_size, sum(EXACTNESS_ROWS)).astype(np.uint32)
    batch = pack(np.split(ids, np.cumsum(EXACTNESS_ROWS)[:-1]))
    least = float(np.min(cosines(load_exact().run(*batch), model.run(*batch))))
    file_state.write_note(note, repr(least))
    return least


def cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each row of `a` with the same row of `b`, shape `(rows,)`, computed in float64.

    The cosine of a row of zeros is 0.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result: NDArray[np.float64] = np.sum(a * b, axis=1) / np.maximum(lengths, 1e-300)
    return result


def best_batch_size(model: Model, weights: Sequence[tuple[str, Path]], limit: int) -> int:
    """Return the token budget of a batch for this model on this machine, one of `BATCH_SIZES`.

    It is measured where no measurement of these files is remembered. `limit` is the most tokens of one input.
    """
    variant = f"{__version__}-{model.dtype}-{model.instruction_set}-{model.threads}-{BATCH_SIZES}"
    note = file_state.note_path(weights, "budget", variant)
    try:
        return int(note.read_text())
    except (OSError, ValueError):  # not measured yet, or a half-written note, which is replaced
        log.debug("measuring the best size of a batch")
    size = choose_batch_size(lambda tokens: batch_seconds(model, tokens, min(limit, BATCH_ROW)))
    file_state.write_note(note, str(size))
    return size


def choose_batch_size(seconds: Callable[[int], float]) -> int:
    """Return the smallest of `BATCH_SIZES` whose rate is near the best. `seconds` times a batch of so many tokens.

    Example:
        >>> choose_batch_size(lambda tokens: 0.004 + tokens / 100_000)
        4096
        >>> choose_batch_size(lambda tokens: 0.0001 + tokens / 100_000)
        1024
        >>> choose_batch_size(lambda tokens: tokens / 1000)
        1024
    """
    rates: dict[int, float] = {}
    for size in BATCH_SIZES:
        took = seconds(size)
        rates[size] = size / max(took, 1e-9)
        if took > SLOW_BATCH:
            break
    return next(size for size, rate in rates.items() if rate >= NEAR_BEST * max(rates.values()))


def batch_seconds(model: Model, tokens: int, row: int) -> float:
    """Return the seconds that a batch of `tokens` tokens in rows of `row` tokens takes.

    The batch runs twice and the shorter time counts, since noise only ever adds time.
    """
    rows = max(1, tokens // row)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, rows * row).astype(np.uint32)
    cu_seqlens = (np.arange(rows + 1) * row).astype(np.uint32)
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        model.run(ids, cu_seqlens)
        best = min(best, time.perf_counter() - start)
        if best > SLOW_BATCH:
            break
    return best * tokens / (rows * row)
