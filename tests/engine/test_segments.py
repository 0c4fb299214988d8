"""Packed rows: many rows in one array give the ids, the vectors, the errors and the counts of rows one by one."""

import contextlib

import numpy as np
import pytest
from goldens import DATA
from looping import answer, cut, hold, rows, submit
from test_loop import Spoiling

from embergem.engine.loop import Loop
from embergem.engine.scheduler import Limits
from embergem.engine.vector_cache import VectorCache
from embergem.errors import InvalidRequest, NonFiniteOutput
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.packed_rows import PackedRows
from embergem.types import Request, Row

TEXTS = [
    "",
    " ",
    "a",
    "What is graphene?",
    "It's Straße,   naïve\u0301 É 中文字 がか\u3099 한국어\t\n x",
    "\u200b\ufeff\u00a0\u3000\u2028 \x00\x07\x7f",
    "👩\u200d👧 🇺🇦 👍🏽 ﬁ ½ İΣ e\u0301",
    "https://example.org/a_b?c=1&d=%20 [CLS] <s> </s> [MASK] <unk>",
    "def f(x):\n    return x**2  # 1234567890",
    "graphene " * 300,
    "हिन्दी ไทย Ελληνικά русский עברית العربية",
    "don't WON'T we'LL 'S  ''  ...!?",
]


def packed(*lengths):
    """Return rows as `looping.rows` does, packed."""
    return PackedRows.of(rows(*lengths))


def listed(given):
    return [(row.ids.tolist(), row.length) for row in given]


def test_packed_rows_are_a_sequence_of_rows():
    plain = [Row(np.uint32([1, 2]), 2), Row(np.uint32([]), 0), Row(np.uint32([3, 4, 5]), 9), Row(np.uint32([6]), 1)]
    found = PackedRows.of(plain)
    assert listed(found) == listed(plain)
    assert [listed([found[index]]) for index in (0, -1, 2)] == [listed([plain[index]]) for index in (0, -1, 2)]
    for part in (slice(1, 3), slice(2, None), slice(3, 1), slice(None, None, -1), slice(0, 4, 2)):
        assert listed(found[part]) == listed(plain[part])
    assert listed(found.take([2, 0, 0])) == listed([plain[2], plain[0], plain[0]])
    assert listed(found.spread([1, 2, 4, 5], 7)) == listed(
        [Row(np.uint32([]), 0), *plain[:2], Row(np.uint32([]), 0), *plain[2:], Row(np.uint32([]), 0)]
    )
    assert (len(found.ids), found.truncated) == (6, 1)
    with pytest.raises(IndexError):
        found[4]


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 100])
def test_segments_fit_the_limit_and_have_all_rows(limit):
    found = packed(3, 1, 1, 5, 2)
    segments = list(found.segments(limit))
    assert [row for first, rows in segments for row in listed(rows)] == listed(found)
    assert [first for first, _ in segments] == np.cumsum([0, *(len(rows) for _, rows in segments)])[:-1].tolist()
    assert all(len(rows.ids) <= limit or len(rows) == 1 for _, rows in segments)
    assert len(segments) == {1: 5, 2: 4, 4: 4, 5: 3, 100: 1}[limit]


@pytest.mark.parametrize(
    "directory", sorted(path.parent for path in DATA.glob("*/tokenizer.json")), ids=lambda p: p.name
)
def test_texts_have_the_same_ids_packed(directory):
    with load(LoadOptions(model=str(directory))) as engine:
        titles = [None, "A title"] * (len(TEXTS) // 2)
        requests = [Request(texts=TEXTS, truncate=True), Request(texts=TEXTS * 30, truncate=True)]
        for task in engine.tasks:
            requests.append(Request(texts=TEXTS, task=task, truncate=True))
            if "{title}" in (engine.prompt(task) or ""):
                requests.append(Request(texts=TEXTS, task=task, titles=titles, truncate=True))
        for request in requests:
            assert listed(engine.prepare_packed(request)) == listed(engine.prepare(request)), request.task


def test_packed_rows_of_requests_that_may_not_be_cut_are_refused(embedder):
    with pytest.raises(InvalidRequest, match="Packed rows are for texts that may be cut"):
        embedder._backend.prepare_packed(Request(texts=["a"]))
    with pytest.raises(InvalidRequest, match="There are no texts"):
        embedder._backend.prepare_packed(Request(texts=[], truncate=True))


@pytest.mark.parametrize("max_rows", [None, 3])
@pytest.mark.parametrize("cache", [None, 2**16])
def test_packed_rows_get_the_vectors_of_rows(compute, cache, max_rows):
    cache = None if cache is None else VectorCache(cache)
    with contextlib.closing(Loop(compute, cut, Limits(10, max_rows), "test", cache=cache)) as loop:
        lengths = [1, 9, 10, 2, 2, 3, 11, 4]
        first = hold(compute, loop, "bulk", 7)
        futures = [loop.submit(Request(lane="bulk"), packed(*lengths[:count])) for count in (8, 1, 5)]
        plain = submit(loop, 5, 6, lane="bulk")
        compute.gates["bulk"].set()
        assert [answer(future)[0] for future in futures] == [lengths[:count] for count in (8, 1, 5)]
        assert (answer(first)[0], answer(plain)[0]) == ([7], [5, 6])
        assert all(sum(batch) <= 10 or len(batch) == 1 for batch in compute.batches)
        assert max_rows is None or max(map(len, compute.batches)) <= max_rows
        stats = loop.stats()
        assert (stats.rows, stats.tokens) == (17, 7 + 11 + sum(sum(lengths[:count]) for count in (8, 1, 5)))
        assert stats.queue_rows["bulk"] == sum(map(len, compute.batches))


def test_a_segment_that_is_not_finite_fails_its_request_with_the_index_of_the_input():
    compute = Spoiling()
    with contextlib.closing(Loop(compute, cut, Limits(40), "test")) as loop:
        hold(compute, loop, "bulk", 10)
        good = loop.submit(Request(lane="bulk"), packed(1, 2, 3))
        bad = loop.submit(Request(lane="bulk"), packed(30, 5, 4, 6, 7, 8))
        compute.gates["bulk"].set()
        assert answer(good)[0] == [1, 2, 3]
        with pytest.raises(NonFiniteOutput, match="Input 4 gave a vector that is not finite"):
            bad.result()


def test_a_request_of_segments_is_cancelled(compute):
    with contextlib.closing(Loop(compute, cut, Limits(4), "test")) as loop:
        first = hold(compute, loop, "bulk", 3)
        pending = loop.submit(Request(lane="bulk"), packed(2, 2, 3, 4))
        assert pending.cancel()
        assert loop.stats().queue_tokens["bulk"] == 0
        compute.gates["bulk"].set()
        assert answer(first)[0] == [3]
        assert compute.batches == [[3]]
