"""How many tokens a batch should have: measured at the first load of each state of the files, and remembered.

A larger batch reads the weights less often but holds up what comes behind it. So the budget is the smallest size whose
rate comes near the best.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from embergem._native import Model, __version__
from embergem.hub import file_state

SIZES = (1024, 2048, 4096)
"""Budgets that are tried, smallest first. Below the first a large model's rows don't go through its layers in blocks,
which costs a sixteenth of the rate; see `crates/core/src/run/row_blocks.rs`."""

NEAR = 0.97
"""Share of the best rate that is near enough."""

LONG = 0.5
"""Seconds after which no larger batch is tried: one that takes so long reads its weights seldom enough."""

ROW = 128
"""Tokens of a row that is measured."""

log = logging.getLogger(__name__)


def measured(model: Model, weights: Sequence[tuple[str, Path]], limit: int) -> int:
    """Return the budget for this model on this machine, measuring it if that was not done before."""
    variant = f"{__version__}-{model.dtype}-{model.instruction_set}-{model.threads}-{SIZES}"
    note = file_state.mark(weights, "budget", variant)
    try:
        return int(note.read_text())
    except (OSError, ValueError):  # not measured yet, or half a note: it is written anew
        log.debug("measuring the best size of a batch")
    found = choose(lambda tokens: _seconds(model, tokens, min(limit, ROW)))
    file_state.write(note, str(found))
    return found


def choose(seconds: Callable[[int], float]) -> int:
    """Return the smallest of `SIZES` whose rate is near the best; `seconds` says how long a batch takes.

    Example:
        >>> choose(lambda tokens: 0.004 + tokens / 100_000)
        4096
        >>> choose(lambda tokens: 0.0001 + tokens / 100_000)
        1024
        >>> choose(lambda tokens: tokens / 1000)
        1024
    """
    rates: dict[int, float] = {}
    for size in SIZES:
        took = seconds(size)
        rates[size] = size / max(took, 1e-9)
        if took > LONG:
            break
    return next(size for size, rate in rates.items() if rate >= NEAR * max(rates.values()))


def _seconds(model: Model, tokens: int, row: int) -> float:
    """Time a batch of this size, in rows of `row` tokens: the better of two runs, since noise only ever slows."""
    rows = max(1, tokens // row)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, rows * row).astype(np.uint32)
    cu_seqlens = (np.arange(rows + 1) * row).astype(np.uint32)
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        model.run(ids, cu_seqlens)
        best = min(best, time.perf_counter() - start)
        if best > LONG:
            break
    return best * tokens / (rows * row)
