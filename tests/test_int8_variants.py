"""benchmarks/int8_variants.py: its default is the scheme of the engine, and compensation lowers the error."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from int8_variants import SCHEMES, Model, Rounded, Stack

from embergem.ops.int8 import int8_linear, smoothing_exponents

KEY = (0, None)


@pytest.fixture
def product():
    """A product with input channels of different sizes that are correlated, and a model that has only this one."""
    random = np.random.default_rng(1)
    sizes = np.exp(random.normal(size=384))
    common = random.normal(size=(500, 8)) @ random.normal(size=(8, 384))
    x = ((random.normal(size=(500, 384)) + common) * sizes).astype(np.float32)
    weight = random.normal(size=(40, 384)).astype(np.float32)
    model = Model.__new__(Model)
    moments = (x.T @ x / len(x)).astype(np.float64)
    model.stacks = [Stack({KEY: weight}, "weight", np.diag(moments).copy(), {"random": moments})]
    return model, x, weight


def test_the_default_is_the_scheme_of_the_engine(product):
    model, x, weight = product
    found = Rounded(model, SCHEMES["int8"])(x, KEY, weight)
    exponents = smoothing_exponents(model.stacks[0].squares, weight)
    assert np.ptp(exponents) > 1
    expected = int8_linear(x, weight, exponents)
    # Factors are multiplied in another order, so a value at the border of two integers may be rounded to the other one.
    assert np.abs(found - expected).mean() < 1e-2 * np.abs(expected - x @ weight.T).mean()


@pytest.mark.parametrize("side", ["only-rows", "only-weights"])
def test_one_rounded_side_has_about_half_of_the_squared_error(product, side):
    model, x, weight = product
    whole, half = (np.square(Rounded(model, SCHEMES[name])(x, KEY, weight) - x @ weight.T) for name in ("int8", side))
    assert 0.3 < half.mean() / whole.mean() < 0.7


def test_compensation_lowers_the_error_of_inputs_with_these_moments(product):
    model, x, weight = product
    plain, better = (
        np.square(Rounded(model, SCHEMES[name])(x, KEY, weight) - x @ weight.T).mean()
        for name in ("only-weights", "compensated-only-weights")
    )
    assert better < 0.8 * plain
