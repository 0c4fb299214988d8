"""`Part`: rows of the output with their vectors, and `PartBuilder`, which makes parts of computed blocks."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from embergem.bulk.blocks import Block, Counts
from embergem.bulk.job_options import JobOptions
from embergem.bulk.rows import Column, Position, Problem, concatenate, take

PART_ROWS = 16_384
"""Most rows of a part, about."""

PART_BYTES = 2**23
"""Bytes of vectors of a part, about."""

PART_SECONDS = 5.0
"""Seconds after which the rows that are computed become a part: a killed job loses the work of about this time. The
bytes of the output do not depend on where parts end."""


class ComputedBlock(msgspec.Struct):
    """A block with its vectors.

    Attributes:
        block: The block.
        vectors: One vector a row of the output, in the form of the output; zeros where a row has none.
        new: The rows of the output whose key is new in this job.
        counts: All counts of the block.
    """

    block: Block
    vectors: NDArray[Any]
    new: Sequence[int]
    counts: Counts


class Part(msgspec.Struct):
    """Consecutive rows of the output.

    Attributes:
        end: The place in the source after the rows.
        vectors: One vector a row, (rows, width), in the form of the output; zeros where a row has none.
        valid: Whether each row has a vector; None if all have one.
        columns: The other columns of the output, in order.
        keys: Key of each row; None for a row without a vector.
        new: The rows whose key is new in this job.
        problems: Problems of the source rows.
        counts: Counts of the rows.
        bytes_read: Bytes of all files that were read up to the last row; None where that is not known.
    """

    end: Position
    vectors: NDArray[Any]
    valid: NDArray[np.bool_] | None
    columns: dict[str, Column]
    keys: list[bytes | None]
    new: list[int]
    problems: list[Problem]
    counts: Counts
    bytes_read: int | None

    def __len__(self) -> int:
        return len(self.vectors)


def column_names(options: JobOptions, keep: Sequence[str]) -> list[str]:
    """Return the names of the columns of the output before the vectors, in order."""
    chunks = ["chunk", "chunk_start", "chunk_end"] if chunk_columns(options) else []
    first = "index" if options.id is None else options.id
    return [first, *[name for name in keep if name != options.id], *chunks]


def chunk_columns(options: JobOptions) -> bool:
    """Whether the output has a row for each chunk of a text."""
    return options.too_long == "chunk" and options.chunk_pool == "each"


class PartBuilder:
    """Collects computed blocks until they are worth a part.

    Args:
        options: What the output has.
        keep: Columns of the source that the output has, without the id.
    """

    def __init__(self, options: JobOptions, keep: Sequence[str]) -> None:
        self._options = options
        self._keep = [name for name in keep if name != options.id]
        self._blocks: list[ComputedBlock] = []
        self._rows = self._bytes = 0
        self._began = 0.0

    def add(self, computed: ComputedBlock) -> Part | None:
        """Add a block, and return a part if there is enough for one."""
        if not self._blocks:
            self._began = time.monotonic()
        self._blocks.append(computed)
        self._rows += computed.counts.source_rows
        self._bytes += computed.vectors.nbytes
        full = self._rows >= PART_ROWS or self._bytes >= PART_BYTES
        return self.flush() if full or time.monotonic() - self._began >= PART_SECONDS else None

    def flush(self) -> Part | None:
        """Return a part of the blocks since the last one; None if there are none."""
        blocks, self._blocks = self._blocks, []
        self._rows = self._bytes = 0
        if not blocks:
            return None
        counts = Counts()
        new: list[int] = []
        first = 0
        for computed in blocks:
            counts.add(computed.counts)
            new += [first + row for row in computed.new]
            first += len(computed.vectors)
        keys = [key for computed in blocks for key in computed.block.keys]
        valid = None if counts.null == 0 else np.array([key is not None for key in keys])
        return Part(
            blocks[-1].block.batch.end,
            np.concatenate([computed.vectors for computed in blocks]),
            valid,
            self._columns([computed.block for computed in blocks]),
            keys,
            new,
            [problem for computed in blocks for problem in computed.block.problems],
            counts,
            blocks[-1].block.batch.bytes_read,
        )

    def _columns(self, blocks: Sequence[Block]) -> dict[str, Column]:
        names = column_names(self._options, self._keep)
        parts = [self._block_columns(block) for block in blocks]
        return {name: concatenate([part[name] for part in parts]) for name in names}

    def _block_columns(self, block: Block) -> dict[str, Column]:
        whole = isinstance(block.rows, range)
        columns = {name: column if whole else take(column, block.rows) for name, column in block.batch.columns.items()}
        if self._options.id is None:
            columns["index"] = [block.batch.first_row + row for row in block.rows]
        if chunk_columns(self._options):
            chunks = block.chunks or [None] * len(block.rows)
            texts = [block.batch.texts[row] or "" for row in block.rows]
            columns["chunk"] = [0 if chunk is None else chunk.number for chunk in chunks]
            columns["chunk_start"] = [0 if chunk is None else chunk.start for chunk in chunks]
            columns["chunk_end"] = [
                len(text) if chunk is None else chunk.end for chunk, text in zip(chunks, texts, strict=True)
            ]
        return columns
