"""`PackedRows`: tokenized inputs in one array, for callers with many short rows. A Python object a row takes 1 µs."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from embergem.types import Ids, Row


class PackedRows(Sequence[Row]):
    """Rows of token ids in one array. As a sequence it has a `Row` for each, and slices are `PackedRows`.

    Attributes:
        ids: The token ids of all rows, shape `(tokens,)`.
        offsets: Where each row begins in `ids`, and the end of the last one, shape `(rows + 1,)`.
        lengths: Tokens of each row before truncation, shape `(rows,)`.

    Example:
        >>> from embergem.packed_rows import PackedRows
        >>> rows = PackedRows(np.uint32([5, 6, 7]), np.uint64([0, 2, 3]), np.uint64([2, 9]))
        >>> len(rows), rows[0].ids.tolist(), rows[1].truncated, rows.take([1, 0]).ids.tolist()
        (2, [5, 6], True, [7, 5, 6])
    """

    __slots__ = ("ids", "lengths", "offsets")

    def __init__(self, ids: Ids, offsets: NDArray[np.uint64], lengths: NDArray[np.uint64]) -> None:
        self.ids = ids
        self.offsets = offsets
        self.lengths = lengths

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "PackedRows":
        """Return rows in one piece."""
        ids = np.concatenate([np.empty(0, np.uint32), *(row.ids for row in rows)])
        offsets = np.cumsum([0, *(len(row.ids) for row in rows)]).astype(np.uint64)
        return cls(ids, offsets, np.array([row.length for row in rows], dtype=np.uint64))

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "PackedRows": ...
    def __getitem__(self, index: int | slice) -> "Row | PackedRows":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.take(range(start, stop, step))
            stop = max(start, stop)
            offsets = self.offsets[start : stop + 1]
            return PackedRows(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0], self.lengths[start:stop])
        place = range(len(self))[index]
        return Row(self.ids[self.offsets[place] : self.offsets[place + 1]], int(self.lengths[place]))

    def __iter__(self) -> Iterator[Row]:
        ends = self.offsets.tolist()
        for (start, stop), length in zip(pairwise(ends), self.lengths.tolist(), strict=True):
            yield Row(self.ids[start:stop], length)

    @property
    def counts(self) -> NDArray[np.uint64]:
        """Tokens of each row after truncation, shape `(rows,)`."""
        return np.diff(self.offsets)

    @property
    def truncated(self) -> int:
        """Number of rows that were cut."""
        return int(np.count_nonzero(self.lengths > self.counts))

    @property
    def cu_seqlens(self) -> Ids:
        """The offsets as native code takes them; the rows must have less than 2^32 tokens."""
        return self.offsets.astype(np.uint32)

    def take(self, indices: Sequence[int]) -> "PackedRows":
        """Return the rows at `indices`, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        counts = self.counts[chosen].astype(np.int64)
        offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen].astype(np.int64) - offsets[:-1], counts)
        return PackedRows(self.ids[places], offsets.astype(np.uint64), self.lengths[chosen])

    def spread(self, places: Sequence[int], count: int) -> "PackedRows":
        """Return `count` rows: these rows at `places`, which ascend, and rows without tokens elsewhere."""
        counts, lengths = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
        counts[places], lengths[places] = self.counts, self.lengths
        return PackedRows(self.ids, np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts)]), lengths)

    def segments(self, tokens: int) -> Iterator[tuple[int, "PackedRows"]]:
        """Yield consecutive rows of at most `tokens` tokens, but at least one row, with the index of the first."""
        start = 0
        while start < len(self):
            limit = int(self.offsets[start]) + tokens
            stop = max(start + 1, int(np.searchsorted(self.offsets, limit, side="right")) - 1)
            yield start, self[start:stop]
            start = stop
