"""The loop measures the best size of a batch when the bulk lane first needs it, and other work goes on meanwhile."""

import threading

import pytest
from looping import answer, hold, submit

from embergem.errors import Cancelled, EmbergemError, EngineClosed


def test_the_size_of_a_batch_is_measured_when_the_bulk_lane_first_needs_it(make, compute):
    measured = []
    loop = make(measure_budget=lambda cancel: measured.append(cancel) or 40)
    first = hold(compute, loop)
    queries = [submit(loop, 6, 3) for _ in range(5)]  # more than a batch in the interactive lane
    compute.gates["interactive"].set()
    assert [answer(future)[0] for future in (first, *queries)] == [[10], *[[6, 3]] * 5]
    assert answer(submit(loop, 7, lane="bulk"))[0] == [7]
    assert (measured, loop.stats().max_batch_tokens) == ([], 10)
    compute.batches.clear()
    assert answer(submit(loop, *[8] * 6))[0] == [8] * 6
    assert compute.batches == [[8] * 5, [8]]
    assert loop.limits.max_batch_tokens == loop.stats().max_batch_tokens == 40
    answer(submit(loop, *[8] * 6))
    assert len(measured) == 1


@pytest.mark.parametrize("error", [EmbergemError("no memory"), RuntimeError("no memory")])
def test_a_batch_keeps_its_size_if_the_measurement_fails(make, compute, caplog, error):
    def fail(cancel):
        raise error

    loop = make(measure_budget=fail)
    assert answer(submit(loop, 8, 8))[0] == [8, 8]
    assert compute.batches == [[8], [8]]
    assert "test: the best size of a batch could not be measured: no memory" in caplog.text


def test_closing_stops_the_measurement(make):
    begun = threading.Event()

    def measure(cancel):
        begun.set()
        while not cancel.cancelled:
            pass
        raise Cancelled("stopped")

    loop = make(measure_budget=measure)
    future = submit(loop, 8, 8)
    assert begun.wait(30)
    loop.close()
    with pytest.raises(EngineClosed):
        future.result()


def test_a_measurement_does_not_keep_the_other_lane_waiting(make):
    begun, end = threading.Event(), threading.Event()

    def measure(cancel):
        begun.set()
        end.wait()
        return 20

    loop = make(measure_budget=measure)
    large = submit(loop, 8, 8)
    assert begun.wait(30)
    assert answer(submit(loop, 3), timeout=30)[0] == [3]
    end.set()
    assert answer(large)[0] == [8, 8]
