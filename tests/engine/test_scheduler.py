"""Tests of the scheduler with a fake clock: order, token budget, fair shares, deadlines."""

import weakref
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from embergem.engine.scheduler import Limits, QueuedRow, Scheduler
from embergem.types import Request

LANES = ("interactive", "bulk")
lanes = st.sampled_from(LANES)
tenants = st.sampled_from("abc")
lengths = st.lists(st.integers(1, 50), min_size=1, max_size=8)
requests = st.lists(st.tuples(lanes, tenants, lengths), max_size=10)
seeded = settings(derandomize=True, deadline=None)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class NamedRow(QueuedRow, eq=False):
    owner: object


def ask(scheduler, name, sizes, **options):
    rows = [NamedRow(tokens=size, owner=(name, index)) for index, size in enumerate(sizes)]
    scheduler.add(rows, Request(**options))
    return rows


def drain(scheduler, lane):
    while batch := scheduler.next_batch(lane):
        yield batch


@given(requests, st.integers(1, 60))
@seeded
def test_each_row_is_batched_once_in_tenant_order_within_the_budget(requests, budget):
    scheduler = Scheduler(Limits(budget), clock=Clock())
    for name, (lane, tenant, sizes) in enumerate(requests):
        ask(scheduler, name, sizes, lane=lane, tenant=tenant)
    for lane in LANES:
        assert scheduler.queued_tokens(lane) == sum(sum(sizes) for other, _, sizes in requests if other == lane)
        taken = []
        for batch in drain(scheduler, lane):
            assert len(batch) == 1 or sum(item.tokens for item in batch) <= budget
            taken += [item.owner for item in batch]
        for tenant in "abc":
            mine = [name for name, asked in enumerate(requests) if asked[:2] == (lane, tenant)]
            expected = [(name, index) for name in mine for index in range(len(requests[name][2]))]
            assert [owner for owner in taken if owner[0] in mine] == expected
        assert len(taken) == len(set(taken)) == sum(len(sizes) for other, _, sizes in requests if other == lane)
        assert scheduler.queued_tokens(lane) == 0


@given(st.lists(st.tuples(tenants, lengths), min_size=3, max_size=30), st.integers(1, 100))
@seeded
def test_tenants_share_a_lane_by_tokens(requests, budget):
    """While two tenants have queued rows, neither gets ahead of the other by more than one row."""
    scheduler = Scheduler(Limits(budget), clock=Clock())
    left, given = Counter(), Counter()
    for name, (tenant, sizes) in enumerate(requests):
        ask(scheduler, (tenant, name), sizes, tenant=tenant)
        left[tenant] += len(sizes)
    for batch in drain(scheduler, "interactive"):
        for item in batch:
            tenant = item.owner[0][0]
            given[tenant] += item.tokens
            left[tenant] -= 1
            for other in "abc":
                if left[other]:
                    assert given[tenant] - given[other] <= 50


def test_a_tenant_with_many_rows_does_not_delay_one_with_few():
    scheduler = Scheduler(Limits(100), clock=Clock())
    ask(scheduler, "much", [50] * 1000, tenant="a")
    scheduler.next_batch("interactive")
    ask(scheduler, "little", [50], tenant="b")
    assert ("little", 0) in [item.owner for item in scheduler.next_batch("interactive")]


def test_an_idle_tenant_gains_no_advantage():
    scheduler = Scheduler(Limits(10), clock=Clock())
    ask(scheduler, "a", [10] * 100, tenant="a")
    ask(scheduler, "b", [10], tenant="b")
    for _ in range(50):
        scheduler.next_batch("interactive")
    ask(scheduler, "b", [10] * 100, tenant="b")
    served = Counter(scheduler.next_batch("interactive")[0].owner[0] for _ in range(20))
    assert served == {"a": 10, "b": 10}


def test_no_tenant_is_ahead_of_another_in_an_empty_lane():
    """What a tenant used before the lane was empty does not count against it."""
    scheduler = Scheduler(Limits(10), clock=Clock())
    ask(scheduler, "before", [10], tenant="a")
    list(drain(scheduler, "interactive"))
    ask(scheduler, "first", [10], tenant="a")
    ask(scheduler, "second", [10], tenant="b")
    assert [row.owner[0] for batch in drain(scheduler, "interactive") for row in batch] == ["first", "second"]


def test_rows_taken_or_removed_before_their_deadline_are_freed():
    """A server gives every request a deadline minutes away; the request must be freed before that."""
    scheduler = Scheduler(Limits(10), clock=Clock())
    left = []
    for name in range(1000):
        owner = set()  # an object that allows weak references
        left.append(weakref.ref(owner))
        items = [NamedRow(tokens=5, owner=owner) for _ in range(2)]
        scheduler.add(items, Request(deadline=600.0 + name % 7))
        del owner
        if name % 3:
            [scheduler.remove(item) for item in items]
        else:
            scheduler.next_batch("interactive")
        del items
        scheduler.next_batch("interactive")  # skips the removed rows
    assert [reference for reference in left if reference() is not None] == []
    assert scheduler.next_deadline() is None
    assert len(scheduler._deadlines) == 0


def test_few_removed_rows_do_not_rebuild_the_heap_of_deadlines():
    """Rebuilding the heap takes time in proportion to its length, so it waits until half of the entries are empty."""
    scheduler = Scheduler(Limits(10), clock=Clock())
    rows = [ask(scheduler, name, [1], deadline=600.0)[0] for name in range(100)]
    for row in rows[:40]:
        scheduler.remove(row)
    assert len(scheduler._deadlines) == 100
    for row in rows[40:80]:
        scheduler.remove(row)
    assert len(scheduler._deadlines) < 50
    few = Scheduler(Limits(10), clock=Clock())
    for row in [ask(few, name, [1], deadline=600.0)[0] for name in range(10)]:
        few.remove(row)
    assert len(few._deadlines) == 10, "a short heap is left as it is"


def test_an_early_deadline_does_not_keep_entries_of_later_ones():
    scheduler = Scheduler(Limits(10), clock=Clock())
    ask(scheduler, "waits", [5], lane="bulk", deadline=1.0)
    for name in range(1000):
        ask(scheduler, name, [10], deadline=600.0)
        scheduler.next_batch("interactive")
    assert scheduler.next_deadline() == 1.0
    assert len(scheduler._deadlines) < 40


@given(st.lists(st.integers(1, 99), min_size=20, max_size=60), st.randoms(use_true_random=False))
@seeded
def test_removed_rows_leave_the_other_deadlines_in_order(deadlines, random):
    """The scheduler prunes empty groups from the middle of its heap; what is left must be a heap again."""
    scheduler = Scheduler(Limits(100), clock=(clock := Clock()))
    queued = {ask(scheduler, name, [1], deadline=deadline)[0]: deadline for name, deadline in enumerate(deadlines)}
    for row in random.sample(list(queued), len(queued) * 3 // 4):
        scheduler.remove(row)
        del queued[row]
    while queued:
        clock.now = min(queued.values())
        assert scheduler.next_deadline() == clock.now
        late = {row for row, deadline in queued.items() if deadline <= clock.now}
        assert set(scheduler.expire()) == late
        queued = {row: deadline for row, deadline in queued.items() if row not in late}


@given(st.lists(st.tuples(tenants, lengths, st.booleans()), max_size=40), st.integers(20, 200))
@seeded
def test_a_full_lane_refuses_only_tenants_above_their_share(requests, bound):
    scheduler = Scheduler(Limits(30, max_queue_tokens=bound), clock=Clock())
    waiting = Counter()
    for name, (tenant, sizes, then_take) in enumerate(requests):
        tokens, mine = sum(sizes), waiting[tenant]
        excess = scheduler.excess(tokens, Request(tenant=tenant))
        active = len({one for one in waiting if waiting[one]} | {tenant})
        fits = waiting.total() + tokens <= bound
        assert (excess == 0) == (fits or mine == 0 or mine + tokens <= bound / active)
        assert excess <= max(0, waiting.total() + tokens - bound)
        if not excess:
            ask(scheduler, (tenant, name), sizes, tenant=tenant)
            waiting[tenant] += tokens
        if then_take:
            for item in scheduler.next_batch("interactive"):
                waiting[item.owner[0][0]] -= item.tokens
        assert scheduler.queued_tokens("interactive") == waiting.total()


def test_a_tenant_that_fills_a_lane_locks_out_only_itself():
    scheduler = Scheduler(Limits(10, max_queue_tokens=1000), clock=Clock())
    ask(scheduler, "a", [100] * 50, tenant="a")
    assert scheduler.excess(100, Request(lane="interactive", tenant="a")) > 0
    for _ in range(5):
        assert scheduler.excess(100, Request(lane="interactive", tenant="b")) == 0
        ask(scheduler, "b", [100], tenant="b")
    assert scheduler.excess(100, Request(lane="interactive", tenant="b")) == 200
    assert scheduler.excess(100, Request(lane="bulk", tenant="a")) == 0


actions = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), lanes, tenants, lengths, st.none() | st.floats(0, 20)),
        st.tuples(st.just("drop"), st.integers(0, 200)),
        st.tuples(st.just("batch"), lanes),
        st.tuples(st.just("wait"), st.floats(0.1, 5)),
    ),
    max_size=60,
)


@given(actions, st.integers(1, 80))
@seeded
def test_random_use_ends_each_row_once(actions, budget):
    clock = Clock()
    scheduler = Scheduler(Limits(budget), clock=clock)
    items, ended = [], Counter()
    deadlines = {}

    def batch(lane):
        late = [row.owner for row in scheduler.expire()]
        assert all(deadlines[owner] <= clock.now for owner in late)
        ended.update(late)
        taken = scheduler.next_batch(lane)
        assert len(taken) <= 1 or sum(item.tokens for item in taken) <= budget
        assert not any(deadlines[item.owner] is not None and deadlines[item.owner] <= clock.now for item in taken)
        ended.update(item.owner for item in taken)
        return taken

    for number, (kind, *values) in enumerate(actions):
        if kind == "ask":
            lane, tenant, sizes, deadline = values
            deadlines |= {(number, index): deadline for index in range(len(sizes))}
            items += ask(scheduler, number, sizes, lane=lane, tenant=tenant, deadline=deadline)
        elif kind == "drop" and values[0] < len(items):
            item = items[values[0]]
            ended[item.owner] += item.queued
            scheduler.remove(item)
        elif kind == "batch":
            batch(*values)
        elif kind == "wait":
            clock.now += values[0]
        for lane in LANES:
            waiting = sum(item.tokens for item in items if item.queued and item.lane == lane)
            assert scheduler.queued_tokens(lane) == waiting
    while batch("interactive") or batch("bulk"):
        pass
    assert ended == Counter(item.owner for item in items)


def test_deadlines_follow_the_clock():
    clock = Clock()
    scheduler = Scheduler(Limits(10), clock=clock)
    assert scheduler.next_deadline() is None
    ask(scheduler, "a", [3, 3], deadline=5.0)
    ask(scheduler, "b", [3])
    clock.now = 2.0
    assert scheduler.next_deadline() == 5.0
    assert scheduler.expire() == []
    clock.now = 5.0
    assert [row.owner for row in scheduler.expire()] == [("a", 0), ("a", 1)]
    [item] = scheduler.next_batch("interactive")
    assert (item.owner, item.queued_at) == (("b", 0), 0.0)


@given(requests, st.integers(1, 5))
@seeded
def test_a_batch_has_at_most_max_batch_rows(requests, most):
    scheduler = Scheduler(Limits(60, most), clock=Clock())
    for name, (lane, tenant, sizes) in enumerate(requests):
        ask(scheduler, name, sizes, lane=lane, tenant=tenant)
    for lane in LANES:
        batches = list(drain(scheduler, lane))
        assert all(len(batch) <= most for batch in batches)
        assert sum(map(len, batches)) == sum(len(sizes) for other, _, sizes in requests if other == lane)
