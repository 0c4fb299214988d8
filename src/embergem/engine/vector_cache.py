"""Cache of computed vectors, in memory and optionally in a file.

A key is a digest of the space (weights and arithmetic) and the token ids. A value is the vector at its full size, from
which every `dimensions` and every encoding is made. A key always belongs to the same bits, so no entry expires; the
least recently used entries are evicted when the cache is full.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from embergem.engine.disk_cache import DiskCache
from embergem.types import Row, Vectors

ENTRY_OVERHEAD = 256
"""Bytes of an entry in memory besides its numbers: the key, the array's header, its place in the dictionary."""

DISK_BYTES = 4 * 2**30
"""Default size limit of the file, in bytes of numbers."""


class VectorCache:
    """Keeps up to `max_bytes` of vectors in memory, and up to `max_disk_bytes` in the file `path` if that is given.

    Thread-safe. Several engines may share one cache, and several processes one file.

    Attributes:
        max_bytes: The limit of memory.
        persistent: Whether there is a file.

    Raises:
        UnsupportedOption: The file cannot be used.

    Example:
        >>> import numpy as np
        >>> from embergem.engine.vector_cache import VectorCache
        >>> cache = VectorCache(max_bytes=2**20)
        >>> cache.put([(b"a key", np.ones(3, dtype=np.float32))])
        >>> cache.get([b"a key", b"another"])
        {b'a key': array([1., 1., 1.], dtype=float32)}
    """

    def __init__(self, max_bytes: int, path: Path | None = None, *, max_disk_bytes: int = DISK_BYTES) -> None:
        self.max_bytes = max_bytes
        self.persistent = path is not None
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self._used = 0
        self._disk = None if path is None else DiskCache(path, max_disk_bytes)

    @property
    def used(self) -> int:
        """Bytes of memory in use."""
        return self._used

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the vectors `(dimensions,)` of those keys that memory has. The caller must not write to them."""
        found: dict[bytes, Vectors] = {}
        with self._lock:
            for key in keys:
                vector = self._vectors.get(key)
                if vector is not None:
                    self._vectors.move_to_end(key)
                    found[key] = vector
        return found

    def load(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Read the vectors of keys that memory does not have from the file, put them into memory, and return them."""
        if self._disk is None:
            return {}
        missing = [key for key in dict.fromkeys(keys) if key not in self._vectors]
        loaded = self._disk.get(missing) if missing else {}
        self.put(loaded.items())
        return loaded

    def put(self, entries: Iterable[tuple[bytes, Vectors]]) -> None:
        """Copy vectors into memory, and evict the least recently used entries if the cache is too large then."""
        with self._lock:
            for key, vector in entries:
                if key in self._vectors:
                    continue
                self._vectors[key] = vector.copy()  # a view of one row would keep its whole batch in memory
                self._used += vector.nbytes + ENTRY_OVERHEAD
            while self._used > self.max_bytes and self._vectors:
                _, evicted = self._vectors.popitem(last=False)
                self._used -= evicted.nbytes + ENTRY_OVERHEAD

    def save(self, entries: Iterable[tuple[bytes, Vectors]]) -> None:
        """Write vectors to the file, if there is one."""
        if self._disk is not None:
            self._disk.put(entries)

    def close(self) -> None:
        """Close the file. Close the engines that use the cache first."""
        if self._disk is not None:
            self._disk.close()


def row_keys(space: bytes, rows: Sequence[Row]) -> list[bytes]:
    """Return the cache key of each row. `space` identifies the weights and the arithmetic."""
    keys = []
    for row in rows:
        digest = hashlib.blake2b(space, digest_size=24)
        digest.update(row.ids.data)
        keys.append(digest.digest())
    return keys
