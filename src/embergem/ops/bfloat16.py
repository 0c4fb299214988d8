"""The bfloat16 product in NumPy, written to be read: the specification of crates/core/src/kernels/bfloat16.rs.

Weights are rounded to bfloat16 on every instruction set, rows only on those whose instruction multiplies bfloat16
numbers (`ROUNDING`). A product of two bfloat16 numbers is exact in float32. The order in which sums are rounded to
float32 is that of the instruction, so the sets agree only within that rounding.

Separate because it is the specification of one kernel.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ROUNDING = ("avx512-bf16", "avx512-amx")
"""Instruction sets that round rows: `vdpbf16ps` and `tdpbf16ps` multiply two bfloat16 numbers."""


def bfloat16_linear(x: Floats, weight: Floats, *, round_rows: bool) -> Floats:
    """Return `x @ weight.T` with weights, and rows if `round_rows` is set, in bfloat16.

    Args:
        x: Rows, shape (n, k).
        weight: One row for each output channel, shape (m, k).
        round_rows: Whether the instruction set is one of `ROUNDING`.

    Returns:
        Shape (n, m).

    Example:
        >>> x, weight = np.array([[1.001, 2.0]], np.float32), np.array([[1.0, 0.5]], np.float32)
        >>> bfloat16_linear(x, weight, round_rows=True)
        array([[2.]], dtype=float32)
        >>> bfloat16_linear(x, weight, round_rows=False)
        array([[2.001]], dtype=float32)
    """
    rows = round_to_bfloat16(x) if round_rows else x
    # float64 holds the sum of a few thousand products to far more digits than float32, whatever the order.
    out: Floats = (rows.astype(np.float64) @ round_to_bfloat16(weight).astype(np.float64).T).astype(np.float32)
    return out


def round_to_bfloat16(values: Floats) -> Floats:
    """Round to the nearest bfloat16, ties to even, and return float32 numbers with these values.

    A denormal number becomes a zero of its sign, because the instructions that multiply bfloat16 numbers count it as
    one. Infinity stays infinity, and NaN stays NaN.

    Example:
        >>> round_to_bfloat16(np.array([1.00390625, 1.01171875, -1e-39, np.inf], np.float32))
        array([ 1.      ,  1.015625, -0.      ,       inf], dtype=float32)
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) & np.uint32(0xFFFF0000)
    rounded = np.where(np.isnan(values), bits | 0x00400000, rounded)
    rounded = np.where(np.abs(values) < np.finfo(np.float32).tiny, bits & 0x80000000, rounded)
    return rounded.astype(np.uint32).view(np.float32)
