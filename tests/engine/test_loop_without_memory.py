"""The loop when memory is missing outside the native call: requests fail, and its threads go on."""

import pytest
from looping import answer, hold, submit


def test_a_request_without_room_for_its_vectors_fails_alone(loop, compute, monkeypatch):
    hold(compute, loop)
    full, other = submit(loop, 1, 2), submit(loop, 3)

    original = type(full).fill

    def fill(self, *args):
        if self is full:
            raise MemoryError("no room")
        return original(self, *args)

    monkeypatch.setattr(type(full), "fill", fill)
    compute.gates["interactive"].set()
    assert answer(other)[0] == [3]
    with pytest.raises(MemoryError, match="no room"):
        full.result()
    assert answer(submit(loop, 4))[0] == [4]


def test_a_lane_goes_on_after_a_batch_that_could_not_be_settled(loop, compute, monkeypatch):
    failures = [MemoryError("first"), MemoryError("second")]
    original = type(loop._table).remove

    def remove(self, requests):
        if failures:
            raise failures.pop()
        return original(self, requests)

    monkeypatch.setattr(type(loop._table), "remove", remove)
    compute.fail = MemoryError("no memory")
    with pytest.raises(MemoryError):
        submit(loop, 3, 9).result(60)
    compute.fail = None
    assert answer(submit(loop, 4))[0] == [4]
    assert not failures
