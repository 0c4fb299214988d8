"""The pipeline of a job: rows are read, tokenized, computed and written at the same time, each on its own thread.

`read_ahead` runs an iterator on a thread. `Computer` embeds blocks, several at a time, and yields them in order. The
engine has its own threads, and `job_store.Committer` writes parts on another one.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from embergem.bulk.blocks import Block
from embergem.bulk.encoder import Encoder
from embergem.bulk.job_options import JobOptions
from embergem.bulk.parts import ComputedBlock
from embergem.packed_rows import PackedRows
from embergem.sdk.outputs import Output, converter
from embergem.types import Vectors

T = TypeVar("T")

BLOCKS_AHEAD = 4
"""Most blocks that are read ahead, and most blocks that the engine works on, unless its `blocks_ahead` says more."""

RECENT_BYTES = 2**24
"""Memory for vectors that are kept because a later row may have the same key."""

ENTRY_OVERHEAD = 300
"""Bytes of a recent vector besides its numbers: its key and its place in the dictionary."""


@contextmanager
def read_ahead(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Iterate over `items` on a thread of its own, at most `depth` items ahead, as long as the context is open.

    An error of the iteration is raised where the item would have come. Leaving the context waits until the thread has
    finished its present item.
    """
    items_ahead: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                items_ahead.put((item, error), timeout=0.1)
                return
            except queue.Full:
                continue

    def run() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                put(item, None)
                if stop.is_set():
                    break
            else:
                put(None, StopIteration())
        except BaseException as error:  # raised again on the thread of the caller
            put(None, error)
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    def take() -> Iterator[T]:
        while True:
            item, error = items_ahead.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # it is an item, because there is no error

    thread = threading.Thread(target=run, name="embergem bulk reader", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        thread.join()


class StoredVectors(Protocol):
    """Vectors of a job that are on the disk."""

    @property
    def empty(self) -> bool:
        """Whether there is none."""

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, tuple[NDArray[Any], bool]]:
        """Return the vectors of those keys that are stored, each with whether an earlier job made it."""


class _Pending(msgspec.Struct, eq=False):
    """A block that the model works on.

    Attributes:
        block: The block.
        end: Rows of the output up to the end of the block, since the start of this process.
        future: The result for the new keys.
        inputs: Inputs of the new keys.
        first: Number of the first new key among those of the job since the start of this process.
        new: First row of each new key.
        copies: Rows with the key of a recent row, by the block of that row: rows, and places among its new keys.
        stored: Rows whose key is on the disk, with their vectors.
        reused: Number of rows with a vector of an earlier job.
        vectors: Vectors of the new keys, once they are computed.
    """

    block: Block
    end: int
    future: Future[Any] | None
    inputs: Sequence[Any]
    first: int
    new: list[int]
    copies: "list[tuple[_Pending, list[int], list[int]]]"
    stored: list[tuple[int, NDArray[Any]]]
    reused: int
    vectors: NDArray[Any] | None = None


class Computer:
    """Computes the vectors of blocks; equal keys are computed once.

    Args:
        encoder: Embeds the inputs.
        options: The form of the vectors.
        stored: Vectors on the disk; None if there are none.
    """

    def __init__(self, encoder: Encoder, options: JobOptions, stored: StoredVectors | None = None) -> None:
        self._encoder = encoder
        self._stored = stored
        self._ahead: int = getattr(encoder.backend, "blocks_ahead", BLOCKS_AHEAD)
        self._convert = cast("Callable[[Vectors], NDArray[Any]]", converter(_form(options)))
        size = options.dimensions or encoder.backend.dimensions
        example: NDArray[Any] = self._convert(np.zeros((1, size), dtype=np.float32))
        self.width: int = example.shape[1]
        self.dtype: np.dtype[Any] = example.dtype
        # Number of the new key with these vectors. Numbers, because the garbage collector would visit a tuple a key.
        self._recent: dict[bytes, int] = {}
        self._numbered: deque[_Pending] = deque()  # the blocks of these keys, in order
        self._count = 0  # of new keys
        self._bytes = 0
        self._forgot = stored is not None and not stored.empty  # a key may be on the disk and not in `_recent`
        self._rows = 0

    def blocks(self, blocks: Iterable[Block]) -> Generator[ComputedBlock, None, None]:
        """Yield the blocks with their vectors, in order; several are computed at a time.

        If reading a block fails, the blocks before it are yielded before the error is raised.
        """
        pending: deque[_Pending] = deque()
        iterator = iter(blocks)
        failure: Exception | None = None
        try:
            while True:
                try:
                    block = next(iterator, None)
                except Exception as error:
                    failure, block = error, None
                if block is None:
                    break
                pending.append(self._submit(block))
                if len(pending) >= self._ahead:
                    yield self._resolve(pending.popleft())
            while pending:
                yield self._resolve(pending.popleft())
            if failure is not None:
                raise failure
        finally:
            for left in pending:
                if left.future is not None:
                    left.future.cancel()

    def release(self, rows: int) -> None:
        """Forget the oldest vectors above `RECENT_BYTES` among the first `rows` rows, which are on the disk now."""
        while self._bytes > RECENT_BYTES and self._numbered and self._numbered[0].end <= rows:
            self._forget(self._numbered.popleft())

    def _forget(self, pending: _Pending) -> None:
        for number, row in enumerate(pending.new, start=pending.first):
            key = pending.block.keys[row]
            assert key is not None
            if self._recent.get(key) == number:
                del self._recent[key]
        self._bytes -= self._size(pending)
        self._forgot = self._stored is not None

    def _size(self, pending: _Pending) -> int:
        return len(pending.new) * (self.width * self.dtype.itemsize + ENTRY_OVERHEAD)

    def _submit(self, block: Block) -> _Pending:
        self._rows += len(block.rows)
        pending = _Pending(block, self._rows, None, [], self._count, [], [], [], 0)
        recent, new = self._recent, pending.new
        found: Mapping[bytes, tuple[NDArray[Any], bool]] = {}
        if self._stored is not None and self._forgot:
            unknown = {key: None for key in block.keys if key is not None and key not in recent}
            found = self._stored.find(list(unknown)) if unknown else {}
        copied: list[tuple[int, int]] = []
        number = self._count
        for row, key in enumerate(block.keys):
            if key is None:
                continue
            if (hit := recent.get(key)) is not None:
                copied.append((hit, row))
            elif key in found:
                vector, reused = found[key]
                pending.stored.append((row, vector))
                pending.reused += reused
            else:
                recent[key] = number
                number += 1
                new.append(row)
        self._count = number
        self._numbered.append(pending)
        pending.copies = self._copies(sorted(copied))
        pending.inputs = inputs = _chosen(block.inputs, pending.new)
        flat = inputs
        if not isinstance(inputs, PackedRows) and any(type(item) is list for item in inputs):
            flat = [each for item in inputs for each in (item if type(item) is list else [item])]
        if flat:
            pending.future = self._encoder.submit(flat)
        return pending

    def _copies(self, copied: Sequence[tuple[int, int]]) -> list[tuple[_Pending, list[int], list[int]]]:
        """Return rows by the block that has their vectors, given their keys' numbers, which ascend."""
        copies: list[tuple[_Pending, list[int], list[int]]] = []
        blocks = iter(self._numbered)
        source = next(blocks)
        for number, row in copied:
            while number >= source.first + len(source.new):
                source = next(blocks)
            if not copies or copies[-1][0] is not source:
                copies.append((source, [], []))
            copies[-1][1].append(row)
            copies[-1][2].append(number - source.first)
        return copies

    def _resolve(self, pending: _Pending) -> ComputedBlock:
        block = pending.block
        own: NDArray[Any] = np.empty((0, self.width), dtype=self.dtype)
        if pending.future is not None:
            try:
                result = pending.future.result()
            finally:
                pending.future.cancel()  # has an effect only if an interrupt ended the wait
            own = self._convert(self._pool(pending.inputs, result.vectors))
        pending.vectors = own
        pending.inputs = []
        if len(pending.new) == len(block.keys):
            vectors = own
        else:
            vectors = np.zeros((len(block.keys), self.width), dtype=self.dtype)
            vectors[pending.new] = own
            for source, rows, places in pending.copies:
                assert source.vectors is not None  # blocks are resolved in order
                vectors[rows] = source.vectors[places]
            for row, vector in pending.stored:
                vectors[row] = vector
        self._bytes += self._size(pending)
        counts = msgspec.structs.replace(block.counts)
        counts.computed = len(pending.new)
        counts.reused = pending.reused
        counts.duplicates = counts.rows - counts.null - counts.computed - counts.reused
        pending.copies, pending.stored, pending.future = [], [], None
        return ComputedBlock(block, vectors, pending.new, counts)

    def _pool(self, inputs: Sequence[Any], vectors: Vectors) -> Vectors:
        """Replace the vectors of chunks by their mean, weighted by tokens and scaled to length 1 as each was."""
        if isinstance(inputs, PackedRows) or all(type(item) is not list for item in inputs):
            return vectors
        pooled = np.empty((len(inputs), vectors.shape[1]), dtype=np.float32)
        first = 0
        for place, item in enumerate(inputs):
            count = len(item) if type(item) is list else 1
            part = vectors[first : first + count]
            first += count
            pooled[place] = part[0] if count == 1 else _mean(part, [each.length for each in item])
        return pooled


def _chosen(inputs: Sequence[Any], rows: Sequence[int]) -> Sequence[Any]:
    """Return the inputs of the rows, which ascend."""
    if isinstance(inputs, PackedRows):
        return inputs if len(rows) == len(inputs) else inputs.take(rows)
    return [inputs[row] for row in rows]


def _mean(vectors: Vectors, weights: Sequence[int]) -> Vectors:
    """Return the weighted mean of vectors, scaled to the weighted mean of their lengths, so that 1 stays 1."""
    whole = np.average(vectors.astype(np.float64), axis=0, weights=weights)
    length = np.average(np.linalg.norm(vectors.astype(np.float64), axis=1), weights=weights)
    norm = np.linalg.norm(whole)
    mean: Vectors = (whole * (length / norm) if norm else whole).astype(np.float32)
    return mean


def _form(options: JobOptions) -> Output:
    return "array" if options.output_dtype == "float32" else options.output_dtype
