"""Tests of the vector cache: limits, eviction, keys, and the file."""

import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from goldens import DATA

from embergem.engine import Request
from embergem.engine.disk_cache import QUERY_KEYS, DiskCache
from embergem.engine.vector_cache import ENTRY_OVERHEAD, VectorCache, row_keys
from embergem.errors import UnsupportedOption
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.program.build import build
from embergem.types import Row


def vector(value):
    return np.full(4, value, dtype=np.float32)


def test_vectors_from_before_a_correction_of_the_family_are_not_found(tmp_path, monkeypatch):
    """The fingerprint and the program key stay the same when the arithmetic of a family is corrected."""
    monkeypatch.setenv("EMBERGEM_CACHE", str(tmp_path / "cache"))
    directory = DATA / "roberta_mean"
    options = LoadOptions(model=directory, max_batch_tokens=4096)
    row = Request(ids=[[0, 50, 1, 60, 70, 2]])  # 1 is the padding token

    def uncorrected(call):
        return replace(call, parameters=call.parameters | {"padding": None}) if call.op == "embed" else call

    def embed():
        with closing(VectorCache(2**16, tmp_path / "vectors.db")) as cache, load(options, cache=cache) as engine:
            assert engine.report.failures == ()
            result = engine.embed(row)
            return engine.fingerprint, result.vectors, result.cached

    with monkeypatch.context() as patch:
        patch.setattr("embergem.engine.prepare.build", partial(build, alter=uncorrected))
        space, old, cached = embed()
        assert not cached
        assert embed()[2]
    now, new, cached = embed()
    assert (now, list(cached)) == (space, [])
    assert np.abs(new - old).max() > 1e-3


def test_the_least_recently_used_entry_is_evicted():
    cache = VectorCache(3 * (16 + ENTRY_OVERHEAD))
    cache.put((name, vector(number)) for number, name in enumerate([b"a", b"b", b"c"]))
    assert cache.get([b"a"])[b"a"][0] == 0
    cache.put([(b"d", vector(3))])
    assert cache.get([b"b"]) == {}
    assert {key: kept[0] for key, kept in cache.get([b"a", b"c", b"d"]).items()} == {b"a": 0, b"c": 2, b"d": 3}
    assert cache.used == cache.max_bytes


def test_a_vector_larger_than_the_cache_is_not_kept():
    cache = VectorCache(100)
    cache.put([(b"a", vector(1))])
    assert (len(cache), cache.used) == (0, 0)


def test_the_cache_keeps_copies():
    cache, batch = VectorCache(2**16), np.ones((2, 4), dtype=np.float32)
    cache.put([(b"a", batch[0])])
    batch[:] = 7
    assert cache.get([b"a"])[b"a"].tolist() == [1, 1, 1, 1]


def test_keys_depend_on_space_and_ids():
    ids = np.array([1, 2, 3], dtype=np.uint32)
    rows = [Row(ids, 3), Row(ids[:2], 2), Row(ids[::-1].copy(), 3)]
    keys = {*row_keys(b"s", rows), *row_keys(b"t", rows[:1])}
    assert len(keys) == 4
    assert row_keys(b"s", [Row(ids.copy(), 9)])[0] in keys


def test_vectors_on_disk_survive_a_restart(tmp_path):
    path = tmp_path / "sub" / "vectors.db"
    first = VectorCache(2**16, path)
    first.save([(b"a", vector(1)), (b"b", vector(2))])
    assert first.get([b"a"]) == {}  # `save` writes the file only
    first.close()
    second = VectorCache(2**16, path)
    assert {name: row.tolist() for name, row in second.load([b"a", b"b", b"c"]).items()} == {
        b"a": [1] * 4,
        b"b": [2] * 4,
    }
    assert second.get([b"a"])[b"a"].tolist() == [1] * 4
    second.close()


def test_a_killed_process_leaves_complete_entries(tmp_path):
    path = tmp_path / "vectors.db"
    code = (
        "import os, signal, sys, pathlib, numpy as np\n"
        "from embergem.engine.vector_cache import VectorCache\n"
        "cache = VectorCache(2**20, pathlib.Path(sys.argv[1]))\n"
        "for number in range(50):\n"
        "    cache.save([(b'%d' % number, np.full(64, number, dtype=np.float32))])\n"
        "    if number == 30:\n"
        "        cache._disk._connection.execute('BEGIN IMMEDIATE')\n"
        "        cache._disk._connection.execute('DELETE FROM vectors')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -signal.SIGKILL
    cache = VectorCache(2**20, path)
    found = cache.load([b"%d" % number for number in range(50)])
    assert {int(name): set(row.tolist()) for name, row in found.items()} == {n: {float(n)} for n in range(31)}
    cache.close()


def test_a_full_disk_cache_evicts_the_oldest_entries(tmp_path):
    disk = DiskCache(tmp_path / "vectors.db", 100 * 16)
    for number in range(300):
        disk.put([(b"%d" % number, vector(number))])
    there = sorted(int(name) for name in disk.get([b"%d" % number for number in range(300)]))
    assert len(there) == 100
    assert there == list(range(300 - len(there), 300))
    disk.close()


def test_reading_does_not_wait_for_writing(tmp_path):
    disk = DiskCache(tmp_path / "vectors.db", 2**20)
    disk.put([(b"a", vector(1))])
    with disk._write_lock:  # as through the whole of `put`
        disk._connection.execute("BEGIN IMMEDIATE")
        disk._connection.execute("DELETE FROM vectors")
        assert disk.get([b"a"])[b"a"].tolist() == [1] * 4
        disk._connection.execute("ROLLBACK")
    disk.close()


def test_a_write_evicts_few_entries_and_later_writes_the_others(tmp_path):
    path, many = tmp_path / "vectors.db", 5 * QUERY_KEYS
    names = [b"%d" % number for number in range(many)]
    with closing(DiskCache(path, 2**20)) as large:
        large.put((name, vector(1)) for name in names)
    with closing(DiskCache(path, 16 * QUERY_KEYS)) as small:
        left = many
        while left > QUERY_KEYS:
            small.put([(b"new", vector(2))])
            there = len(small.get(names))
            assert 0 < left - there <= QUERY_KEYS + 1
            left = there
        assert small.get([b"new"])[b"new"].tolist() == [2] * 4


def test_the_size_includes_other_processes_and_files_without_a_size_table(tmp_path):
    path = tmp_path / "vectors.db"
    with closing(DiskCache(path, 2**20)) as first, closing(DiskCache(path, 10 * 16)) as second:
        first.put((b"%d" % number, vector(number)) for number in range(8))
        # Written again, which does not change the size.
        first.put((b"%d" % number, vector(number)) for number in range(8))
        second.put((b"%d" % number, vector(number)) for number in range(8, 12))
        assert sorted(int(name) for name in first.get([b"%d" % number for number in range(12)])) == list(range(2, 12))
        second._connection.executescript("DROP TABLE size; DROP TRIGGER came; DROP TRIGGER went; DROP TRIGGER changed")
    with closing(DiskCache(path, 10 * 16)) as old:
        assert list(old._connection.execute("SELECT bytes FROM size")) == [(160,)]


def test_a_damaged_entry_is_not_returned(tmp_path, caplog):
    disk = DiskCache(tmp_path / "vectors.db", 2**20)
    disk.put([(b"a", vector(1)), (b"b", vector(2))])
    disk._connection.execute("UPDATE vectors SET vector = zeroblob(16) WHERE key = ?", (b"a",))
    assert list(disk.get([b"a", b"b"])) == [b"b"]
    assert "damaged" in caplog.text
    disk.put([(b"a", vector(1))])
    assert disk.get([b"a"])[b"a"].tolist() == [1] * 4
    disk.close()


def test_a_file_that_is_something_else_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(UnsupportedOption, match=r"notes\.txt cannot be used as a cache"):
        VectorCache(2**16, path)


def test_a_disk_cache_that_fails_later_is_only_logged(tmp_path, caplog):
    disk = DiskCache(tmp_path / "vectors.db", 2**20)
    disk.close()
    disk.put([(b"a", vector(1))])
    assert disk.get([b"a"]) == {}
    assert "cannot be written" in caplog.text
    assert "cannot be read" in caplog.text
