"""Fixtures: loops that run a fake of the native executor."""

import pytest
from looping import Compute, cut

from embergem.engine.loop import Loop
from embergem.engine.scheduler import Limits
from embergem.engine.vector_cache import VectorCache


@pytest.fixture
def compute():
    return Compute()


@pytest.fixture
def make(compute):
    loops = []

    def made(*, cut=cut, max_queue_tokens=None, **options):
        limits = Limits(10, max_queue_tokens=max_queue_tokens)
        loops.append(Loop(compute, cut, limits, "test", large_tokens=10, **options))
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
