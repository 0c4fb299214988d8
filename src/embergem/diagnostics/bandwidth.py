"""Measure how fast the cores read memory.

Separate because `diagnostics.speed` measures a model, and this measures the machine alone.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from embergem._native import available_memory

_CACHES = Path("/sys/devices/system/cpu")
_UNKNOWN_CACHE = 64 << 20
_SMALLEST = 256 << 20
_REPEATS = 12


def read_bandwidth(threads: int) -> float:
    """Return the bytes a second that `threads` threads read together, from memory and not from a cache.

    Each thread takes the maximum of its part of a buffer of 32-bit integers, which NumPy computes with vectors and
    without the GIL. The fastest of some passes counts, because other processes can only make a pass slower.
    """
    parts = np.array_split(np.ones(_buffer_bytes() // 4, dtype=np.int32), threads)  # written, so that pages are real
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_REPEATS):
            start = time.perf_counter()
            list(pool.map(np.maximum.reduce, parts))
            best = min(best, time.perf_counter() - start)
    return sum(part.nbytes for part in parts) / best


def _buffer_bytes() -> int:
    """Return four times the last-level caches, at least 256 MiB, within a quarter of the available memory."""
    wanted = max(_SMALLEST, 4 * last_level_cache())
    available = available_memory()
    return wanted if available is None else min(wanted, available // 4)


def last_level_cache(caches: Path = _CACHES) -> int:
    """Return the bytes of all last-level caches together; 64 MiB if the system does not say."""
    sizes: dict[str, tuple[int, int]] = {}  # by the cores that share the cache: (level, bytes)
    for index in caches.glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level, size, cores = ((index / name).read_text().strip() for name in ("level", "size", "shared_cpu_list"))
            found = int(level), int(size.removesuffix("K")) << 10
        except (OSError, ValueError):  # a core that is offline, or a size in a unit that Linux does not use today
            continue
        sizes[cores] = max(found, sizes.get(cores, found))
    last = max((level for level, _ in sizes.values()), default=0)
    return sum(size for level, size in sizes.values() if level == last) or _UNKNOWN_CACHE
