"""Vectors that were computed before, by what they were computed from.

A key is a digest of the space (which weights, which arithmetic) and the token ids; a value is the full-size row, from
which every `dimensions` and every encoding is made. The same key always has the same bits, so nothing ever expires: the
least recently used go when the room is used up.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable

from embergem.engine.request import Ids, Vectors

ENTRY_BYTES = 256
"""What an entry takes besides its numbers: the key, the array's header, its place in the dictionary."""


class Cache:
    """Keeps up to `max_bytes` of vectors in memory. Thread-safe; several engines may share one.

    Example:
        >>> import numpy as np
        >>> from embergem.engine.cache import Cache, key
        >>> cache = Cache(max_bytes=2**20)
        >>> name = key(b"a space", np.array([2, 7, 1], dtype=np.uint32))
        >>> cache.put([(name, np.ones(3, dtype=np.float32))])
        >>> cache.get(name)
        array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._vectors: OrderedDict[bytes, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> Vectors | None:
        """Return the vector (dimensions,) kept under `key`; it is not to be written to."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._vectors.move_to_end(key)
            return vector

    def put(self, entries: Iterable[tuple[bytes, Vectors]]) -> None:
        """Keep copies of vectors; the least recently used make room."""
        with self._lock:
            for name, vector in entries:
                if name in self._vectors:
                    continue
                self._vectors[name] = vector.copy()  # a row of a batch would keep the whole batch alive
                self._bytes += vector.nbytes + ENTRY_BYTES
            while self._bytes > self.max_bytes and self._vectors:
                _, gone = self._vectors.popitem(last=False)
                self._bytes -= gone.nbytes + ENTRY_BYTES


def key(space: bytes, ids: Ids) -> bytes:
    """Return the name of a row: `space` says which weights and arithmetic, `ids` what was read."""
    digest = hashlib.blake2b(space, digest_size=24)
    digest.update(ids.data)
    return digest.digest()
