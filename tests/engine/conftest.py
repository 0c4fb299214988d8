"""Fixtures: loops that run a fake of the native executor."""

import pytest
from looping import Compute, cut

from embergem.engine.loop import Loop
from embergem.engine.vector_cache import VectorCache


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def make(compute):
    loops = []

    def made(*, cut=cut, **options):
        loops.append(Loop(compute, cut, 10, "test", large_tokens=10, **options))
        return loops[-1]

    yield made
    for gate in compute.gates.values():
        gate.set()
    for loop in loops:
        loop.close()


@pytest.fixture
def loop(make):
    return make()


@pytest.fixture
def caching(make):
    return make(cache=VectorCache(2**16))
