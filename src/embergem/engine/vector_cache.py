"""Vectors that were computed before, by what they were computed from.

A key is a digest of the space (which weights, which arithmetic) and the token ids; a value is the full-size row, from
which every `dimensions` and every encoding is made. The same key always has the same bits, so nothing ever expires: the
least recently used go when the room is used up.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from embergem.engine.disk_cache import Disk
from embergem.types import Ids, Vectors

ENTRY_BYTES = 256
"""What an entry of memory takes besides its numbers: the key, the array's header, its place in the dictionary."""

DISK_BYTES = 4 * 2**30
"""Bytes of numbers that a file takes unless said otherwise."""


class Cache:
    """Keeps up to `max_bytes` of vectors in memory, and with `path` up to `max_disk_bytes` in that file, too.

    Thread-safe; several engines may share one, and several processes one file.

    Raises:
        UnsupportedOption: The file cannot be used.

    Example:
        >>> import numpy as np
        >>> from embergem.engine.vector_cache import Cache, key
        >>> cache = Cache(max_bytes=2**20)
        >>> name = key(b"a space", np.array([2, 7, 1], dtype=np.uint32))
        >>> cache.put([(name, np.ones(3, dtype=np.float32))])
        >>> cache.get(name)
        array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, max_bytes: int, path: Path | None = None, *, max_disk_bytes: int = DISK_BYTES) -> None:
        self.max_bytes = max_bytes
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self._used = 0
        self._disk = None if path is None else Disk(path, max_disk_bytes)

    @property
    def used(self) -> int:
        """Bytes of memory in use."""
        return self._used

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> Vectors | None:
        """Return the vector (dimensions,) that memory has under `key`; it is not to be written to."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
            return vector

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the vectors that memory or the file have; not to be written to."""
        found = {name: vector for name in keys if (vector := self.get(name)) is not None}
        if self._disk is not None and (missing := [name for name in dict.fromkeys(keys) if name not in found]):
            read = self._disk.get(missing)
            self.put(read.items())
            found |= read
        return found

    def put(self, entries: Iterable[tuple[bytes, Vectors]]) -> None:
        """Keep copies of vectors in memory; the least recently used make room."""
        with self._lock:
            for name, vector in entries:
                if name in self._vectors:
                    continue
                self._vectors[name] = vector.copy()  # a row of a batch would keep the whole batch alive
                self._used += vector.nbytes + ENTRY_BYTES
            while self._used > self.max_bytes and self._vectors:
                _, gone = self._vectors.popitem(last=False)
                self._used -= gone.nbytes + ENTRY_BYTES

    def save(self, entries: Iterable[tuple[bytes, Vectors]]) -> None:
        """Keep vectors in the file, where there is one."""
        if self._disk is not None:
            self._disk.put(entries)

    def close(self) -> None:
        """Close the file. Engines that use the cache are to be closed before."""
        if self._disk is not None:
            self._disk.close()


def key(space: bytes, ids: Ids) -> bytes:
    """Return the name of a row: `space` says which weights and arithmetic, `ids` what was read."""
    digest = hashlib.blake2b(space, digest_size=24)
    digest.update(ids.data)
    return digest.digest()
