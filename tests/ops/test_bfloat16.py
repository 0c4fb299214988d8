"""The product of bfloat16 numbers of the executor against its NumPy specification."""

import numpy as np
import pytest
from goldens import pack
from test_kernels import Case, embed

from embergem._native import instruction_sets
from embergem.ops import WeightLookup
from embergem.ops.bfloat16 import ROUNDING, bfloat16_linear, round_to_bfloat16
from embergem.ops.reference import Batch, Reference

VOCABULARY = 50


class Bfloat16Reference(Reference):
    """Multiplies in bfloat16."""

    def __init__(self, *, round_rows):
        self.round_rows = round_rows

    def linear(self, x, weight, bias=None, *, rows=None):
        y = bfloat16_linear(x, weight, round_rows=self.round_rows)
        return y if bias is None else y + bias


def product(k, out, directory):
    """Return a case of one product."""

    def forward(ops, w, batch):
        return ops.pool(
            batch, ops.linear(embed(ops, w, batch, k, VOCABULARY), w("w", out, k), w("b", out)), kind="mean"
        )

    case = Case(forward, directory)
    case.weight("table", (VOCABULARY, k))
    return case


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize(("k", "out"), [(1, 1), (40, 17), (128, 33), (129, 8), (384, 100), (515, 7)])
def test_executor_computes_the_specification(k, out, instruction_set, tmp_path):
    case = product(k, out, tmp_path)
    rows = [[token] for token in range(VOCABULARY)]
    rounded, not_rounded = (
        case.forward(Bfloat16Reference(round_rows=round_rows), WeightLookup(case.weight), Batch(*pack(rows)))
        for round_rows in (True, False)
    )
    expected, other = (rounded, not_rounded) if instruction_set in ROUNDING else (not_rounded, rounded)
    found = case.native(rows, dtype="bfloat16", instruction_set=instruction_set)
    # Only the sums are rounded in another way.
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()
    assert np.abs(found - other).max() > 1e-4 * np.abs(expected).max()


def test_rounding_is_to_the_nearest():
    values = np.concatenate([np.random.default_rng(1).standard_normal(1000).astype(np.float32), [1e38, -3.5e-38]])
    values = values.astype(np.float32)
    rounded = round_to_bfloat16(values)
    assert not (rounded.view(np.uint32) & 0xFFFF).any()
    assert (np.abs(rounded - values) <= np.abs(values) / 256).all()
    halves = values.view(np.uint32) & np.uint32(0xFFFF0000)
    neighbours = np.stack([halves.view(np.float32), (halves + np.uint32(0x10000)).view(np.float32)])
    assert np.array_equal(np.abs(rounded - values), np.abs(neighbours - values).min(axis=0))


def test_special_values():
    tie_to_even, overflow = 1.00390625, np.finfo(np.float32).max
    values = np.array([0, -0.0, 1e-39, -1e-45, tie_to_even, overflow, np.inf, -np.inf, np.nan], np.float32)
    expected = np.array([0, -0.0, 0, -0.0, 1, np.inf, np.inf, -np.inf, np.nan], np.float32)
    rounded = round_to_bfloat16(values)
    assert np.array_equal(rounded, expected, equal_nan=True)
    assert np.array_equal(np.signbit(rounded[:4]), [False, True, False, True])
    small_nan = np.array([0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(round_to_bfloat16(small_nan)).all()
