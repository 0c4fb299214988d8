"""The chunks of one call that a backend is working on, so that one is tokenized while another is computed."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, NamedTuple

from embergem.errors import EmbergemError, renumbered_inputs
from embergem.sdk.backend import Backend, EmbeddingResult
from embergem.sdk.chunks import split_request
from embergem.types import Request


class PendingChunk(NamedTuple):
    """A submitted chunk: index of its first input, number of inputs, and the future of its `EmbeddingResult`."""

    start: int
    size: int
    future: Future[Any]

    @property
    def places(self) -> range:
        """Indices of the chunk's inputs in the call."""
        return range(self.start, self.start + self.size)

    def result(self) -> EmbeddingResult:
        """Wait for the result. Ctrl-C cancels the work.

        Raises:
            EmbergemError: With `input_index` counted in the call.
        """
        try:
            result: EmbeddingResult = self.future.result()
            return result
        except EmbergemError as error:  # `renumbered_inputs` would take 2 µs, which counts in a call with one text
            error.renumber_input(self.places)
            raise
        finally:
            self.future.cancel()  # has an effect only if an interrupt ended the wait

    async def result_async(self) -> EmbeddingResult:
        """Wait for the result without blocking the event loop; cancelling the task cancels the work.

        Raises:
            EmbergemError: With `input_index` counted in the call.
        """
        import asyncio  # imported here because the blocking API does without it, and it takes 0.05 s

        with renumbered_inputs(self.places):
            result: EmbeddingResult = await asyncio.wrap_future(self.future)
            return result


class PendingChunks:
    """A queue of submitted chunks, oldest first. Leaving it as a context cancels those that are left."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._chunks: deque[PendingChunk] = deque()
        self._left = False

    def submit(self, start: int, request: Request) -> None:
        """Tokenize a chunk and queue it at the backend; `start` is the index of its first input in the call.

        Raises:
            InvalidRequest: With `input_index` counted in the call.
        """
        with renumbered_inputs(range(start, start + len(request))):
            future = self._backend.submit(request)
        self._chunks.append(PendingChunk(start, len(request), future))
        if self._left:  # The task that this thread tokenizes for was cancelled, and has left the context.
            self._cancel()

    def submit_all(self, request: Request) -> None:
        """Submit every chunk of a request, so that an invalid input is refused before any result is waited for."""
        for start, chunk in split_request(request):
            if self._left:
                break
            self.submit(start, chunk)

    def pop(self) -> PendingChunk:
        """Remove and return the oldest chunk."""
        return self._chunks.popleft()

    def __iter__(self) -> Iterator[PendingChunk]:
        while self._chunks:
            yield self.pop()

    def __len__(self) -> int:
        return len(self._chunks)

    def __enter__(self) -> "PendingChunks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._cancel()

    def _cancel(self) -> None:
        for chunk in tuple(self._chunks):
            chunk.future.cancel()
