"""What `embergem bench` says that a machine allows: the read bandwidth, the caches, and the floors of one query."""

import pytest

from embergem.diagnostics import bandwidth
from embergem.diagnostics.bandwidth import last_level_cache, read_bandwidth
from embergem.diagnostics.speed import QUERY_TOKENS, floor
from embergem.loader import load
from embergem.options import LoadOptions


def write_cache(root, cpu, index, level, size, cores):
    directory = root / f"cpu{cpu}" / "cache" / f"index{index}"
    directory.mkdir(parents=True)
    for name, text in (("level", level), ("size", size), ("shared_cpu_list", cores)):
        (directory / name).write_text(f"{text}\n")


def test_last_level_caches_are_added_once_each(tmp_path):
    for cpu in range(4):
        write_cache(tmp_path, cpu, 0, 1, "32K", cpu)
        write_cache(tmp_path, cpu, 3, 3, "32768K", "0-1" if cpu < 2 else "2-3")
    assert last_level_cache(tmp_path) == 2 * 32 << 20


def test_a_core_without_caches_is_left_out(tmp_path):
    (tmp_path / "cpu0" / "cache" / "index0").mkdir(parents=True)
    assert last_level_cache(tmp_path) == 64 << 20
    write_cache(tmp_path, 1, 2, 2, "1024K", "1")
    assert last_level_cache(tmp_path) == 1 << 20


def test_the_buffer_is_larger_than_the_caches_and_within_memory(monkeypatch):
    monkeypatch.setattr(bandwidth, "last_level_cache", lambda: 100 << 20)
    monkeypatch.setattr(bandwidth, "available_memory", lambda: None)
    assert bandwidth._buffer_bytes() == 400 << 20
    monkeypatch.setattr(bandwidth, "available_memory", lambda: 64 << 20)
    assert bandwidth._buffer_bytes() == 16 << 20
    assert read_bandwidth(3) > 1e8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int16"])
def test_the_floors_of_a_query(tiny, dtype):
    with load(LoadOptions(model=tiny, dtype=dtype)) as engine:
        found = floor(engine, 1e9, 1e9, median=10.0)
        weights, factor = engine.weight_bytes, 1
        if dtype == "int16":
            factor = 8 if engine.instruction_set == "avx512-amx" else 2 if "avx" in engine.instruction_set else 1
        elif dtype == "bfloat16":
            factor = {"avx512-amx": 16, "avx512-bf16": 2}.get(engine.instruction_set, 1)
    assert found.peak_gflops == factor
    assert found.arithmetic_ms == pytest.approx(engine.flops([QUERY_TOKENS]) / factor / 1e6)
    table = 4 * QUERY_TOKENS * 96
    assert found.bytes == weights + table
    assert found.bytes_ms == pytest.approx(found.bytes / 1e6)
    assert found.share == max(found.arithmetic_ms, found.bytes_ms) / 10
