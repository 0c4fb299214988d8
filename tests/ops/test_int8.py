"""The int8 product of the executor against its NumPy specification, with the smoothing that the executor measures."""

import numpy as np
import pytest
from goldens import pack
from test_kernels import Case, embed

from embergem._native import instruction_sets
from embergem.ops import WeightLookup
from embergem.ops.int8 import GROUP, hadamard, int8_linear, quantise, smoothing_exponents
from embergem.ops.reference import Batch, Reference

VOCABULARY = 50


class Int8Reference(Reference):
    """Multiplies in int8, smoothed for one product whose activations have these mean squares."""

    def __init__(self, mean_squares):
        self.mean_squares = mean_squares

    def linear(self, x, weight, bias=None, *, rows=None):
        y = int8_linear(x, weight, smoothing_exponents(self.mean_squares, weight))
        return y if bias is None else y + bias


def calibration_ids(vocabulary, count=8 * 48):
    """Return the fixed random ids of crates/core/src/model/smoothing.rs."""
    state, ids = 1, []
    for _ in range(count):
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64
        ids.append(state * vocabulary >> 64)
    return ids


def product(k, out, directory):
    """Return a case of one product, some of whose channels are much larger than others."""

    def forward(ops, w, batch):
        return ops.pool(
            batch, ops.linear(embed(ops, w, batch, k, VOCABULARY), w("w", out, k), w("b", out)), kind="mean"
        )

    case = Case(forward, directory)
    channels = np.exp2(case.random.integers(-3, 8, k)).astype(np.float32)
    case.weight("table", (VOCABULARY, k))
    case.tensors["table"] *= channels
    return case


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize(("k", "out"), [(1, 1), (40, 17), (128, 33), (129, 8), (384, 100), (515, 7)])
def test_executor_computes_the_specification(k, out, instruction_set, tmp_path):
    case = product(k, out, tmp_path)
    table = case.tensors["table"]
    mean_squares = np.mean(np.square(table[calibration_ids(VOCABULARY)].astype(np.float64)), axis=0)
    rows = [[token] for token in range(VOCABULARY)]
    expected = case.forward(Int8Reference(mean_squares), WeightLookup(case.weight), Batch(*pack(rows)))
    found = case.native(rows, dtype="int8", instruction_set=instruction_set)
    # The integers are the same. Only the sum over groups is rounded in another way.
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()
    exact = case.reference(rows)
    assert np.abs(found - exact).max() > 10 * np.abs(found - expected).max()


def test_transform_is_a_hadamard_matrix():
    matrix = hadamard(np.eye(GROUP, dtype=np.float32))
    assert np.array_equal(np.abs(matrix), np.ones((GROUP, GROUP)))
    assert np.array_equal(matrix @ matrix.T, GROUP * np.eye(GROUP))
    assert np.array_equal(matrix[3], [(-1) ** (bin(3 & column).count("1")) for column in range(GROUP)])


def test_rows_of_zeros_and_extremes():
    rows = np.zeros((3, 130), dtype=np.float32)
    rows[1, 7], rows[2] = 1e30, 1e-38
    integers, scales = quantise(rows)
    assert not integers[0].any()
    assert np.abs(integers[1, 0]).min() == 127
    assert np.isfinite(scales).all()


def test_smoothing_shares_the_difference_of_rows_and_weights(tmp_path):
    random = np.random.default_rng(0)
    weight = random.standard_normal((64, 256)).astype(np.float32)
    x = random.standard_normal((100, 256)).astype(np.float32)
    x[:, [5, 200]] *= 500
    exact = x @ weight.T
    exponents = smoothing_exponents(np.mean(np.square(x.astype(np.float64)), axis=0), weight)
    assert exponents[5] == exponents[200] == pytest.approx(4 * np.log2(np.sqrt(500)), abs=1.1)
    assert np.abs(np.delete(exponents, [5, 200])).max() <= 2

    def error(exponents):
        return np.linalg.norm(int8_linear(x, weight, exponents) - exact)

    assert error(exponents) < 0.5 * error(None)


def test_channels_without_values_are_not_smoothed():
    weight = np.ones((2, 5), dtype=np.float32)
    weight[:, 1] = 0
    exponents = smoothing_exponents(np.array([1.0, 1.0, 0.0, 1.0, 1e30]), weight)
    assert exponents.tolist() == [0, 0, 0, 0, 20]
