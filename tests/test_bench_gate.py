"""`make bench-gate`: the interval that its verdict rests on."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from gate import interval, verdict
from trees import with_module


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # The ranks of the 95 % interval of a median; any table of order statistics has them (such as scipy's binom.ppf).
    [(6, 1, 6), (8, 1, 8), (9, 2, 8), (11, 2, 10), (12, 3, 10), (15, 4, 12), (20, 6, 15), (25, 8, 18)],
)
def test_the_interval_of_a_median_has_the_known_ranks(count, low, high):
    assert interval([float(rank) for rank in range(count, 0, -1)]) == (low, high)


def test_too_few_rounds_have_no_interval():
    with pytest.raises(ValueError, match="measure at least 6 rounds"):
        interval([1.0] * 5)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.90, 0.91, 0.92, 0.93, 0.94, 0.94, 0.93, 0.92, 0.91], "slower"),
        ([0.96, 0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03, 1.04], "as fast"),
        # One bad round, as when another process starts, decides nothing.
        ([0.50, 0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03, 1.04], "as fast"),
        ([0.90, 0.91, 0.92, 0.99, 1.0, 1.01, 1.02, 1.03, 1.04], "undecided"),
    ],
)
def test_the_verdict(ratios, expected):
    assert verdict(ratios) == expected


def test_the_tree_of_a_module_has_this_package_and_that_module_alone(tmp_path):
    module = tmp_path / "other.so"
    module.write_bytes(b"another build")
    with with_module(module) as tree:
        package = tree / "src" / "embergem"
        assert [found.read_bytes() for found in package.glob("_native*.so")] == [b"another build"]
        assert (package / "__init__.py").is_file()
