"""Rows that need not be computed: those in the cache, and those that are in work for somebody else."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from embergem.engine.vector_cache import VectorCache, row_keys
from embergem.engine.work import Cell, Work
from embergem.types import LANES, Lane, Row, Vectors


class Known:
    """What is known of rows by their key, or will be. Under the loop's lock but for `names`, `look_up` and `save`.

    Args:
        cache: Where vectors are looked up and kept; None shares nothing, not even rows in work.
        space: What all keys begin with.
    """

    def __init__(self, cache: VectorCache | None, space: bytes) -> None:
        self._cache = cache
        self._space = space
        self._flights: dict[tuple[Lane, bytes], Cell] = {}

    @property
    def used(self) -> int:
        """Bytes of the cache."""
        return 0 if self._cache is None else self._cache.used

    def names(self, rows: Sequence[Row]) -> list[bytes]:
        """Key of each row; none without a cache."""
        return [] if self._cache is None else row_keys(self._space, rows)

    def look_up(self, names: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Vectors of the keys that the cache has; may read a file."""
        return {} if self._cache is None else self._cache.find(names)

    def split(
        self, work: Work, rows: Sequence[Row], lane: Lane, names: Sequence[bytes], found: Mapping[bytes, Vectors]
    ) -> tuple[list[tuple[Cell, int]], list[Cell]]:
        """Fill in what was found; return the cells in work that can be waited for, and new ones for the rest.

        An interactive request does not wait for a row that a bulk one computes.
        """
        joined: list[tuple[Cell, int]] = []
        if self._cache is None:
            return joined, [Cell(row.ids, lane, None, [(work, index)]) for index, row in enumerate(rows)]
        new: dict[bytes, Cell] = {}
        for index, (row, name) in enumerate(zip(rows, names, strict=True)):
            vector = found.get(name)
            if vector is None:
                vector = self._cache.get(name)  # it may have come in meanwhile
            if vector is not None:
                work.vectors[index] = vector
                work.cached.append(index)
            elif name in new:
                new[name].waiters.append((work, index))
            elif (cell := self._flights.get(("interactive", name)) or self._flights.get((lane, name))) is not None:
                joined.append((cell, index))
            else:
                new[name] = Cell(row.ids, lane, name, [(work, index)])
        return joined, list(new.values())

    def begin(self, cell: Cell) -> None:
        """From now on others may wait for this row."""
        if cell.key is not None:
            self._flights[cell.lane, cell.key] = cell

    def end(self, cell: Cell) -> None:
        """Nobody is to join it any more."""
        if cell.key is not None and self._flights.get((cell.lane, cell.key)) is cell:
            del self._flights[cell.lane, cell.key]

    def keep(self, cells: Sequence[Cell], vectors: Vectors) -> list[tuple[Cell, int]]:
        """Put vectors into the cache; return the cells they answer: also a row that waits in the other lane."""
        settled = list(zip(cells, range(len(cells)), strict=True))
        if self._cache is not None:
            self._cache.put((cell.key, vectors[place]) for cell, place in settled if cell.key is not None)
        return [*settled, *self.twins(cells)]

    def twins(self, cells: Sequence[Cell]) -> list[tuple[Cell, int]]:
        """Return other cells in work for the same rows, each with its place among `cells`."""
        return [(twin, place) for place, cell in enumerate(cells) for twin in self._twins(cell)]

    def save(self, cells: Sequence[Cell], vectors: Vectors) -> None:
        """Write vectors to the cache's file, where it has one."""
        if self._cache is not None:
            self._cache.save(_keyed(cells, vectors))

    def _twins(self, cell: Cell) -> Iterator[Cell]:
        for lane in LANES:
            twin = None if cell.key is None else self._flights.get((lane, cell.key))
            if twin is not None and twin is not cell:
                yield twin


def _keyed(cells: Sequence[Cell], vectors: Vectors) -> Iterable[tuple[bytes, Vectors]]:
    return ((cell.key, vector) for cell, vector in zip(cells, vectors, strict=True) if cell.key is not None)
