"""Helpers of the loop tests: a fake executor whose vectors identify their rows, and requests for it."""

import threading

import numpy as np

from embergem.types import Request, Row


def rows(*lengths):
    return [Row(np.full(length, length, dtype=np.uint32), length) for length in lengths]


def cut(vectors, dimensions):
    return vectors[:, :dimensions]


class Compute:
    """A fake executor: each vector is the length of its row. A lane blocks while its gate is closed."""

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
    """Submit a request and return when its batch is running; the batch ends when its gate is opened."""
    compute.gates[lane].clear()
    compute.started[lane].clear()
    future = submit(loop, *(lengths or (10,)), lane=lane)
    compute.started[lane].wait()
    return future
