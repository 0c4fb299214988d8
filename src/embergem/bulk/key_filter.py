"""`KeyFilter`: says of most new keys, in little memory, that the manifest does not have them.

It is a Bloom filter. A look-up in the database of the manifest takes some microseconds a key, as long as embedding a
short text with a static model, and nearly all keys of most corpora are new.

Separate because `job_store` is about files.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FILTER_BYTES = 2**24
"""Memory of a filter. Of new keys, 1 in 200 is looked up after 10 million keys, and every second after 60 million."""


class KeyFilter:
    """A set of keys of 16 bytes that may claim to have a key, and never misses one. One thread may add to it."""

    def __init__(self) -> None:
        self._bits: NDArray[np.uint8] = np.zeros(FILTER_BYTES, dtype=np.uint8)

    def add(self, keys: Sequence[bytes]) -> None:
        """Add keys."""
        places = self._places(keys)
        np.bitwise_or.at(self._bits, places >> 3, np.left_shift(1, places & 7, dtype=np.uint8, casting="unsafe"))

    def possible(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Return the keys that may be in the set.

        >>> filter = KeyFilter()
        >>> filter.add([b"a" * 16])
        >>> filter.possible([b"a" * 16, b"b" * 16])
        [b'aaaaaaaaaaaaaaaa']
        """
        places = self._places(keys)
        found = ((self._bits[places >> 3] >> (places & 7)) & 1).reshape(-1, 4).all(axis=1)
        return [keys[index] for index in np.flatnonzero(found).tolist()]

    @staticmethod
    def _places(keys: Sequence[bytes]) -> NDArray[np.uint32]:
        """Return four bits for each key: a key is a hash, so its four words are independent."""
        return np.frombuffer(b"".join(keys), dtype=np.uint32) & np.uint32(8 * FILTER_BYTES - 1)
