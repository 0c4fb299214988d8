"""The cache alone: bounds, order of leaving, names."""

import numpy as np

from embergem.engine.cache import ENTRY_BYTES, Cache, key


def vector(value):
    return np.full(4, value, dtype=np.float32)


def test_the_least_recently_used_make_room():
    cache = Cache(3 * (16 + ENTRY_BYTES))
    cache.put((name, vector(number)) for number, name in enumerate([b"a", b"b", b"c"]))
    assert cache.get(b"a")[0] == 0
    cache.put([(b"d", vector(3))])
    assert cache.get(b"b") is None
    assert [cache.get(name)[0] for name in (b"a", b"c", b"d")] == [0, 2, 3]
    assert cache.used == cache.max_bytes


def test_nothing_is_kept_that_is_larger_than_the_cache():
    cache = Cache(100)
    cache.put([(b"a", vector(1))])
    assert (len(cache), cache.used) == (0, 0)


def test_what_is_kept_is_a_copy():
    cache, batch = Cache(2**16), np.ones((2, 4), dtype=np.float32)
    cache.put([(b"a", batch[0])])
    batch[:] = 7
    assert cache.get(b"a").tolist() == [1, 1, 1, 1]


def test_names_depend_on_space_and_ids():
    ids = np.array([1, 2, 3], dtype=np.uint32)
    names = {key(b"s", ids), key(b"t", ids), key(b"s", ids[:2]), key(b"s", ids[::-1].copy())}
    assert len(names) == 4
    assert key(b"s", ids.copy()) in names
