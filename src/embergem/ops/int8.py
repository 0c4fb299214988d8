"""The int8 matrix product in NumPy, written to be read: the specification of crates/core/src/kernels/int8.rs.

Rows and weights are smoothed by a power of 2^¼ for each input channel, transformed by a Hadamard matrix in groups of
128 along K, and rounded to 8 bits with a scale for each group. The sums of integers are exact, so they are the same on
every instruction set.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

GROUP = 128
"""Values along K that are transformed together and share a scale."""

LARGEST = 127
"""Largest integer. -128 is not used, so that the integers of a negated row are the negated integers."""

FURTHEST = 20
"""Most steps of an exponent from the median of its product: factors from 1/32 to 32."""

FRACTIONS = np.array([1, 0.83984375, 0.70703125, 0.59375], dtype=np.float32)
"""2**(-i / 4) for i from 0 to 3, rounded to bfloat16."""

MIN_PEAK = np.float32(1e-30)
"""Least peak of a row's group: its reciprocal is finite."""


def int8_linear(x: Floats, weight: Floats, exponents: NDArray[np.int8] | None = None) -> Floats:
    """Return `x @ weight.T` in int8 arithmetic.

    Args:
        x: Rows, shape (n, k).
        weight: One row for each output channel, shape (m, k).
        exponents: From `smoothing_exponents`, shape (k,): channel i of x is multiplied by `row_factors`, and channel i
            of the weight divided by it. None smooths nothing.

    Returns:
        Shape (n, m).

    Example:
        >>> x, weight = np.ones((1, 256), np.float32), np.full((2, 256), 0.5, np.float32)
        >>> int8_linear(x, weight)
        array([[128., 128.]], dtype=float32)
    """
    factors = row_factors(np.zeros(x.shape[1], np.int8) if exponents is None else exponents)
    rows, row_scales = quantise(x * factors)
    channels, channel_scales = quantise(weight * np.reciprocal(factors))
    sums = np.einsum("ngi,mgi->nmg", rows, channels)  # exact: at most 128 · 127 · 127
    out = np.zeros(sums.shape[:2], dtype=np.float32)
    for group in range(sums.shape[2]):
        # The transform of both sides multiplies a product by the length of a group.
        scale = row_scales[:, None, group] * (channel_scales[None, :, group] / np.float32(GROUP))
        out += sums[:, :, group].astype(np.float32) * scale
    return out


def row_factors(exponents: NDArray[np.int8]) -> Floats:
    """Return 2**(-exponents / 4) in the precision of bfloat16, which the executor stores."""
    whole, fraction = np.divmod(exponents.astype(int), 4)
    factors: Floats = FRACTIONS[fraction] * np.exp2(-whole).astype(np.float32)
    return factors


def quantise(rows: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Transform rows of shape (n, k) and return their integers (n, groups, 128) and scales (n, groups)."""
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % GROUP)))
    groups = hadamard(padded.reshape(len(rows), -1, GROUP))
    peaks = np.maximum(np.abs(groups).max(axis=2), MIN_PEAK)
    integers = np.rint(groups * (np.float32(LARGEST) / peaks)[:, :, None]).astype(np.int32)
    return integers, peaks / np.float32(LARGEST)


def hadamard(groups: Floats) -> Floats:
    """Multiply the last axis, of 128, with the Hadamard matrix of 1 and -1 in its natural (Sylvester's) order.

    Seven steps of sums and differences, of the most distant elements first: the order decides how float32 rounds.
    """
    out = groups.astype(np.float32)
    distance = GROUP // 2
    while distance:
        pairs = out.reshape(*out.shape[:-1], -1, 2, distance)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        out = np.stack([low + high, low - high], axis=-2).reshape(out.shape)
        distance //= 2
    return out


def smoothing_exponents(mean_squares: NDArray[np.float64], weight: Floats) -> NDArray[np.int8]:
    """Return the exponent of each input channel, shape (k,).

    The factor is the power of 2**(1/4) nearest to sqrt(rms of the activations / norm of the weights): SmoothQuant (Xiao
    et al. 2023) with migration strength 1/2. Exponents are relative to their median and at most `FURTHEST` from it.
    Channels without activations or weights get 0.

    Args:
        mean_squares: Mean square of each channel's activations, shape (k,).
        weight: Shape (m, k).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = mean_squares / np.square(weight.astype(np.float64)).sum(axis=0)
    known = np.isfinite(ratios) & (ratios > 0)
    if not known.any():
        return np.zeros(len(ratios), dtype=np.int8)
    # The ratio is the fourth power of the factor. frexp gives its binary exponent exactly, which a logarithm may not.
    nearest = np.frexp(ratios[known] * np.sqrt(2))[1] - 1
    median = np.sort(nearest)[len(nearest) // 2]
    exponents = np.zeros(len(ratios), dtype=np.int8)
    exponents[known] = np.clip(nearest - median, -FURTHEST, FURTHEST)
    return exponents
