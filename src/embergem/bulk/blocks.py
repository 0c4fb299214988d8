"""`Block`: rows as the model will read them, with the policies for bad rows and long texts applied."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, cast

import msgspec
import numpy as np

from embergem.bulk.encoder import Encoder
from embergem.bulk.job_options import JobOptions
from embergem.bulk.long_texts import Chunk, Splitter, pooled_key
from embergem.bulk.rows import Problem, RowBatch
from embergem.bulk.text_readers import TextsReader
from embergem.errors import InputTooLong, InvalidText
from embergem.packed_rows import PackedRows

BLOCK_TOKENS = 16_384
"""Tokens of a block, about: a few batches of the engine. A row is never divided."""


class Counts(msgspec.Struct):
    """What happened to the rows of a job.

    Attributes:
        source_rows: Rows that were read.
        rows: Rows of the output.
        tokens: Tokens of all rows of the output, those of duplicates too.
        computed: Rows whose vector the model computed.
        duplicates: Rows whose vector an earlier row of the job had.
        reused: Rows whose vector the output of an earlier job had.
        null: Rows without a vector, for `on_error="null"`.
        skipped: Rows that were left out, for `on_error="skip"`.
        truncated: Texts that were cut.
        chunked: Texts that were embedded in chunks.
    """

    source_rows: int = 0
    rows: int = 0
    tokens: int = 0
    computed: int = 0
    duplicates: int = 0
    reused: int = 0
    null: int = 0
    skipped: int = 0
    truncated: int = 0
    chunked: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of other rows."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Block(msgspec.Struct):
    """Consecutive rows of the source, and the rows of the output that they become.

    Attributes:
        batch: The rows of the source.
        rows: Index in the batch of each row of the output.
        inputs: What the model reads for each row of the output: an input, a list of inputs whose vectors are pooled, or
            None for a row without a vector. In `PackedRows`, such a row has no tokens.
        keys: Key of each row of the output; None for a row without a vector.
        chunks: The chunk that each row of the output is; None for whole texts.
        problems: Problems of the rows.
        counts: Counts of the rows, without those that depend on earlier rows.
    """

    batch: RowBatch
    rows: Sequence[int]
    inputs: Sequence[Any]
    keys: list[bytes | None]
    chunks: list[Chunk | None]
    problems: list[Problem]
    counts: Counts


class BlockMaker:
    """Makes blocks of batches.

    Args:
        encoder: Tokenizes the texts.
        options: The policies.
    """

    def __init__(self, encoder: Encoder, options: JobOptions) -> None:
        self._encoder = encoder
        self._options = options
        self._limit = encoder.backend.limit
        self._splitter = Splitter(encoder, options.chunk_overlap)

    def blocks(self, batches: Iterable[RowBatch]) -> Iterator[Block]:
        """Yield the blocks of batches, in order. The rows before a refused row are yielded before the error is raised.

        Raises:
            InvalidText: A row has no valid text, and `on_error` is "stop".
            InputTooLong: A text is above the limit, and `too_long` is "stop".
        """
        for batch in batches:
            yield from self._blocks(batch)

    def _blocks(self, batch: RowBatch) -> Iterator[Block]:
        if batch.bad and self._options.on_error == "stop":
            first = min(batch.bad)
            if first:
                yield from self._blocks(batch.part(0, first))
            raise _refused(batch, first)
        texts = [text for text in batch.texts if text is not None]
        inputs = self._encoder.read(texts, self._titles(batch)) if texts else []
        keys: list[Any] = self._encoder.keys(inputs)
        if batch.bad:
            places = [index for index, text in enumerate(batch.texts) if text is not None]
            inputs, keys = _spread(inputs, places, len(batch)), _spread_list(keys, places, len(batch))
        lengths = _lengths(inputs)
        long = [index for index, length in enumerate(lengths) if length > self._limit]
        if long and self._options.too_long == "stop":
            if long[0]:
                yield from self._blocks(batch.part(0, long[0]))
            raise self._too_long(batch, long[0])
        for start, stop in _cuts([min(length, self._limit) for length in lengths]):
            rows = batch.part(start, stop) if stop - start < len(batch) else batch
            special = {index - start for index in (*batch.bad, *long) if start <= index < stop}
            yield self._block(rows, inputs[start:stop], keys[start:stop], special)

    def _titles(self, batch: RowBatch) -> list[str | None] | None:
        if batch.titles is not None:
            pairs = zip(batch.texts, batch.titles, strict=True)
            return [title for text, title in pairs if text is not None]
        if self._options.title_text is None:
            return None
        return [self._options.title_text] * sum(text is not None for text in batch.texts)

    def _too_long(self, batch: RowBatch, index: int) -> InputTooLong:
        problem = batch.problem(index, "too_long", "")
        named = problem.place.capitalize() if problem.file == TextsReader.name else f"{problem.file}, {problem.place}"
        return InputTooLong(
            f"{named} has more than the {self._limit} tokens that this model reads. On the command line, --truncate "
            "cuts it, and --too-long chunk embeds it in parts."
        )

    def _block(self, batch: RowBatch, inputs: Sequence[Any], keys: list[Any], special: set[int]) -> Block:
        counts = Counts(source_rows=len(batch))
        block = Block(batch, range(len(batch)), inputs, keys, [], [], counts)
        if special and isinstance(inputs, PackedRows) and self._options.too_long != "chunk":
            self._apply(block, sorted(special))
        elif special:
            block.rows, block.inputs, block.keys = [], [], []
            for index, (item, key) in enumerate(zip(inputs, keys, strict=True)):
                if index not in special:
                    self._append(block, index, item, key)
                elif index in batch.bad:
                    self._append_bad(block, index)
                else:
                    self._append_long(block, index, item, key)
        counts.rows = len(block.rows)
        if isinstance(block.inputs, PackedRows):
            counts.tokens = self._encoder.tokens(block.inputs)
            return block
        counts.tokens = self._encoder.tokens(
            [item for item in block.inputs if item is not None and type(item) is not list]
        )
        counts.tokens += sum(self._encoder.tokens(item) for item in block.inputs if type(item) is list)
        return block

    def _apply(self, block: Block, special: Sequence[int]) -> None:
        """Apply the policies to packed rows, of which bad ones have no tokens."""
        batch, skipped = block.batch, []
        for index in special:
            if index not in batch.bad:
                self._count_truncated(block, index)
                continue
            block.problems.append(batch.problem(index, *batch.bad[index]))
            skipped.append(index)
        if self._options.on_error == "null":
            block.counts.null = len(skipped)
        elif skipped:
            block.counts.skipped = len(skipped)
            rows: list[int] = np.delete(np.arange(len(batch)), skipped).tolist()
            block.rows, block.inputs = rows, cast("PackedRows", block.inputs).take(rows)
            block.keys = [block.keys[row] for row in rows]

    def _count_truncated(self, block: Block, index: int) -> None:
        block.counts.truncated += 1
        detail = f"was cut to the limit of {self._limit} tokens."
        block.problems.append(block.batch.problem(index, "truncated", detail))

    def _append(self, block: Block, index: int, item: Any, key: bytes | None, chunk: Chunk | None = None) -> None:
        block.rows.append(index)  # type: ignore[attr-defined]  # `_block` made it a list
        block.inputs.append(item)  # type: ignore[attr-defined]
        block.keys.append(key)
        if chunk is not None or block.chunks:
            block.chunks += [None] * (len(block.rows) - 1 - len(block.chunks))
            block.chunks.append(chunk)

    def _append_bad(self, block: Block, index: int) -> None:
        block.problems.append(block.batch.problem(index, *block.batch.bad[index]))
        if self._options.on_error == "null":
            block.counts.null += 1
            self._append(block, index, None, None)
        else:
            block.counts.skipped += 1

    def _append_long(self, block: Block, index: int, item: Any, key: bytes) -> None:
        if self._options.too_long == "truncate":
            self._count_truncated(block, index)
            self._append(block, index, item, key)
            return
        title = self._options.title_text if block.batch.titles is None else block.batch.titles[index]
        chunks = self._splitter.split(block.batch.texts[index] or "", title)
        inputs = [item for _, item in chunks]
        keys = self._encoder.keys(inputs)
        block.counts.chunked += 1
        block.problems.append(block.batch.problem(index, "chunked", f"was embedded in {len(chunks)} chunks."))
        if self._options.chunk_pool == "mean":
            self._append(block, index, inputs, pooled_key(keys))
            return
        for (chunk, item), key in zip(chunks, keys, strict=True):
            self._append(block, index, item, key, chunk)


def _spread(inputs: Sequence[Any], places: Sequence[int], count: int) -> Sequence[Any]:
    """Return `count` inputs: the given ones at `places`, and none elsewhere."""
    return inputs.spread(places, count) if isinstance(inputs, PackedRows) else _spread_list(inputs, places, count)


def _spread_list(values: Sequence[Any], places: Sequence[int], count: int) -> list[Any]:
    spread: list[Any] = [None] * count
    for place, value in zip(places, values, strict=True):
        spread[place] = value
    return spread


def _lengths(inputs: Sequence[Any]) -> list[int]:
    """Return the tokens of each input before truncation; 0 for a row without a text."""
    if isinstance(inputs, PackedRows):
        lengths: list[int] = inputs.lengths.tolist()
        return lengths
    return [0 if item is None else item.length for item in inputs]


def _refused(batch: RowBatch, index: int) -> InvalidText:
    """Return the error for a bad row, for `on_error="stop"`."""
    problem = batch.problem(index, *batch.bad[index])
    return InvalidText(
        f"{problem.file}, {problem.place}: {problem.detail} Or let --on-error skip leave such rows out, or --on-error "
        "null write them without a vector."
    )


def _cuts(tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of parts of about `BLOCK_TOKENS`, given the tokens of each row."""
    start, mark = 0, BLOCK_TOKENS
    for stop, total in enumerate(accumulate(tokens), start=1):
        if total >= mark:
            yield start, stop
            start, mark = stop, total + BLOCK_TOKENS
    if start < len(tokens):
        yield start, len(tokens)
