"""Embeds an iterable of any length in order, with a bounded number of texts and vectors in memory."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from embergem.progress import Advance, embedding_progress
from embergem.sdk.backend import Backend, EmbeddingResult
from embergem.sdk.chunk_queue import PendingChunk, PendingChunks
from embergem.sdk.chunks import CHUNK_INPUTS, CHUNK_SIZE
from embergem.sdk.inputs import Texts, check_input, iterate_inputs
from embergem.sdk.results import ResultCollector
from embergem.types import Request, Vectors

Inputs = list[Any]  # strings, or rows of token ids
Convert = Callable[[Vectors], Iterable[Any]]

MAX_PENDING = 3
"""Most chunks of a stream in work: while one is computed, the next is tokenized and the last is read."""


class ChunkBuilder:
    """Gathers inputs one by one into chunks of a bounded size."""

    def __init__(self) -> None:
        self._inputs: Inputs = []
        self._size = 0
        self._seen = 0
        self._is_text = True

    def add(self, value: str | Sequence[int]) -> tuple[int, Inputs] | None:
        """Add an input. Returns the chunk that was full before it, with the index of its first input.

        Raises:
            InvalidType: The input is of another kind than the first.
        """
        if self._seen == 0:
            self._is_text = isinstance(value, str)
        check_input(self._seen, value, self._is_text)
        full = None
        if self._inputs and (len(self._inputs) == CHUNK_INPUTS or self._size + len(value) > CHUNK_SIZE):
            full = self.flush()
        self._inputs.append(value)
        self._size += len(value)
        self._seen += 1
        return full

    def flush(self) -> tuple[int, Inputs] | None:
        """Return the inputs since the last full chunk, with the index of the first; None if there are none."""
        chunk = (self._seen - len(self._inputs), self._inputs) if self._inputs else None
        self._inputs, self._size = [], 0
        return chunk


class EmbeddingStream:
    """One call of `embed_stream`.

    Args:
        backend: Computes the vectors.
        make_request: Makes the request for a chunk of inputs.
        progress: Whether to show a progress bar; see `embedding_progress`.
    """

    def __init__(self, backend: Backend, make_request: Callable[[Inputs], Request], progress: bool | None) -> None:
        self._backend = backend
        self._make_request = make_request
        self._progress = progress

    def run(self, texts: Texts, convert: Convert) -> Iterator[Any]:
        """Yield one vector an input, in the form that `convert` makes of an array (n, dimensions)."""
        builder = ChunkBuilder()
        with embedding_progress(_count(texts), self._progress) as advance, PendingChunks(self._backend) as pending:
            for value in iterate_inputs(texts):
                if full := builder.add(value):
                    pending.submit(full[0], self._bulk_request(full[1]))
                    if len(pending) == MAX_PENDING:
                        chunk = pending.pop()
                        yield from convert(self._vectors(chunk, chunk.result(), advance))
            if rest := builder.flush():
                pending.submit(rest[0], self._bulk_request(rest[1]))
            for chunk in pending:
                yield from convert(self._vectors(chunk, chunk.result(), advance))

    async def run_async(self, texts: Texts | AsyncIterable[Any], convert: Convert) -> AsyncIterator[Any]:
        """Yield as `run`; reads `texts` on the event loop and tokenizes on a thread."""
        import asyncio  # imported here because the blocking API does without it, and it takes 0.05 s

        builder = ChunkBuilder()
        with embedding_progress(_count(texts), self._progress) as advance, PendingChunks(self._backend) as pending:
            async for value in _iterate_async(texts):
                if full := builder.add(value):
                    await asyncio.to_thread(pending.submit, full[0], self._bulk_request(full[1]))
                    if len(pending) == MAX_PENDING:
                        chunk = pending.pop()
                        for row in convert(self._vectors(chunk, await chunk.result_async(), advance)):
                            yield row
            if rest := builder.flush():
                await asyncio.to_thread(pending.submit, rest[0], self._bulk_request(rest[1]))
            for chunk in pending:
                for row in convert(self._vectors(chunk, await chunk.result_async(), advance)):
                    yield row

    def _bulk_request(self, inputs: Inputs) -> Request:
        return replace(self._make_request(inputs), lane="bulk")  # so that the queries of other callers go first

    def _vectors(self, chunk: PendingChunk, result: EmbeddingResult, advance: Advance) -> Vectors:
        collector = ResultCollector(self._backend.limit)
        collector.add(chunk.places, result)
        advance(chunk.size)
        return collector.vectors()


def _count(texts: object) -> int | None:
    return len(texts) if isinstance(texts, Sequence) and not isinstance(texts, str) else None


async def _iterate_async(texts: Texts | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(texts, AsyncIterable):
        async for value in texts:
            yield value
    else:
        for value in iterate_inputs(texts):
            yield value
