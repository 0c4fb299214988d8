"""Tests of the throughput log: rates over busy time, and at most one line a period."""

import logging

import numpy as np
import pytest

from embergem.engine.bisect import Batch
from embergem.engine.stats import LOG_PERIOD, Counters, ThroughputLog
from embergem.errors import Cancelled


@pytest.fixture
def rig(caplog):
    """Return (run, lines, throughput): run(texts, tokens, seconds, idle=0) runs a batch with a fake clock."""
    caplog.set_level(logging.INFO, "embergem.engine.throughput")
    now = [100.0]
    throughput = ThroughputLog("m", clock=lambda: now[0])
    spent = []

    def compute(ids, cu_seqlens, cancel, lane):
        now[0] += spent.pop()
        return ids

    counted = throughput.wrap(compute)

    def run(texts, tokens, seconds, idle=0.0):
        now[0] += idle
        spent.append(seconds)
        return counted(np.zeros(tokens), np.zeros(texts + 1), None, "bulk")

    return run, lambda: [record.getMessage() for record in caplog.records], throughput


def test_the_first_batch_is_logged_and_then_one_line_a_period(rig):
    run, lines, throughput = rig
    run(4, 100, 0.5)
    assert lines() == ["m: 4 texts, 100 tokens in 0.50 s: 8.0 texts/s, 200 tokens/s"]
    for _ in range(9):
        run(2, 50, LOG_PERIOD / 10)
    assert len(lines()) == 1
    run(2, 50, LOG_PERIOD / 10)
    assert lines()[1:] == ["m: 20 texts, 500 tokens in 5.00 s: 4.0 texts/s, 100 tokens/s"]
    run(1, 10, 1.0)
    throughput.flush()
    throughput.flush()
    assert lines()[2:] == ["m: 1 texts, 10 tokens in 1.00 s: 1.0 texts/s, 10 tokens/s"]


def test_idle_time_is_not_counted(rig):
    run, lines, _ = rig
    run(1, 10, 0.1)
    run(1, 100, 1.0, idle=100.0)
    assert lines()[1] == "m: 1 texts, 100 tokens in 1.00 s: 1.0 texts/s, 100 tokens/s"


def test_the_rate_of_a_lane_follows_its_batches():
    counters = Counters()
    for seconds, rate in ((0.5, 200.0), (1.0, 190.0)):
        counters.computed(Batch("bulk", [], 0.0, runs=1, tokens=100, seconds=seconds))
        assert counters.rate("bulk") == pytest.approx(rate)
    assert counters.rate("interactive") == 0


def test_batches_that_overlap_count_their_time_once(caplog):
    caplog.set_level(logging.INFO, "embergem.engine.throughput")
    now = [0.0]
    throughput = ThroughputLog("m", clock=lambda: now[0])

    def inner(*arguments):
        now[0] += 1

    def outer(*arguments):
        now[0] += 2
        throughput.wrap(inner)(np.zeros(10), np.zeros(2), None, "interactive")
        now[0] += 3

    throughput._last_line = 0.0  # pretend that a line was just written
    throughput.wrap(outer)(np.zeros(50), np.zeros(6), None, "bulk")
    assert caplog.messages == ["m: 6 texts, 60 tokens in 6.00 s: 1.0 texts/s, 10 tokens/s"]


def test_a_cancelled_batch_is_not_counted(rig):
    _, lines, throughput = rig

    def compute(*arguments):
        raise Cancelled("no")

    with pytest.raises(Cancelled):
        throughput.wrap(compute)(np.zeros(5), np.zeros(2), None, "bulk")
    throughput.flush()
    assert lines() == []
