"""What the tests of the loop share: a stand-in for the executor, and requests whose answers tell whose they are."""

import threading

import numpy as np

from embergem.types import Request, Row


def rows(*lengths):
    return [Row(np.full(length, length, dtype=np.uint32), length) for length in lengths]


def cut(vectors, dimensions):
    return vectors[:, :dimensions]


class Compute:
    """Each vector is its row's length. A lane holds while its gate is shut."""

    def __init__(self):
        self.gates = {lane: threading.Event() for lane in ("interactive", "bulk")}
        self.started = {lane: threading.Event() for lane in ("interactive", "bulk")}
        self.fail = None
        self.batches = []
        self.tokens = []
        for gate in self.gates.values():
            gate.set()

    def __call__(self, ids, cu_seqlens, cancel, lane):
        self.tokens.append(cancel)
        self.batches.append(np.diff(cu_seqlens).tolist())
        self.started[lane].set()
        self.gates[lane].wait()
        if self.fail:
            raise self.fail
        return np.diff(cu_seqlens).astype(np.float32)[:, None]


def submit(loop, *lengths, **options):
    return loop.submit(Request(**options), rows(*lengths))


def answer(future, timeout=None):
    """Wait for a request; return the numbers of its vectors and the indices of the cached ones."""
    result = future.result(timeout=timeout)
    return result.vectors.ravel().tolist(), result.cached


def hold(compute, loop, lane="interactive", *lengths):
    """Have a batch in work that does not end before its gate is opened."""
    compute.gates[lane].clear()
    compute.started[lane].clear()
    future = submit(loop, *(lengths or (10,)), lane=lane)
    compute.started[lane].wait()
    return future
