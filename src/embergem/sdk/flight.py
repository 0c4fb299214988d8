"""The requests of one call on their way: sent in pieces, so that tokenizing goes on while others are computed."""

import asyncio
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from embergem.errors import EmbergemError, TruncationWarning
from embergem.sdk.backend import Answer, Backend
from embergem.sdk.inputs import pieces
from embergem.types import Request, Vectors


class Piece(NamedTuple):
    """A piece that was sent: index of its first input, number of inputs, and the future of its `Answer`."""

    start: int
    size: int
    future: Future[Any]

    @property
    def places(self) -> range:
        """Indices of its inputs among those of the call."""
        return range(self.start, self.start + self.size)

    def answer(self) -> Answer:
        """Wait for the answer; Ctrl-C stops the work."""
        try:
            answer: Answer = self.future.result()
            return answer
        except EmbergemError as error:
            error.renumber_input(self.places)
            raise
        finally:
            self.future.cancel()  # changes nothing once it is done

    async def answer_async(self) -> Answer:
        """Wait for the answer without holding the event loop; being cancelled stops the work."""
        try:
            answer: Answer = await asyncio.wrap_future(self.future)
            return answer
        except EmbergemError as error:
            error.renumber_input(self.places)
            raise


class Flight:
    """Pieces in work, first to last. Leaving it as a context cancels those that nobody waits for any more."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._pieces: deque[Piece] = deque()
        self._left = False

    def send(self, start: int, request: Request) -> None:
        """Tokenize a piece and queue it.

        Raises:
            InvalidRequest: With `input_index` counted in the whole call, whose input `start` is the first here.
        """
        try:
            future = self._backend.submit(request)
        except EmbergemError as error:
            error.renumber_input(range(start, start + len(request)))
            raise
        self._pieces.append(Piece(start, len(request), future))
        if self._left:  # by a task that was cancelled while this thread tokenized for it
            self._cancel()

    def send_all(self, request: Request) -> None:
        """Send every piece of a request. What is refused is refused before anything is waited for."""
        for start, piece in pieces(request):
            if self._left:
                break
            self.send(start, piece)

    def next(self) -> Piece:
        """Take the oldest piece."""
        return self._pieces.popleft()

    def __iter__(self) -> Iterator[Piece]:
        while self._pieces:
            yield self.next()

    def __len__(self) -> int:
        return len(self._pieces)

    def __enter__(self) -> "Flight":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        self._cancel()

    def _cancel(self) -> None:
        for piece in tuple(self._pieces):
            piece.future.cancel()


class Landed:
    """Collects the vectors of a call, and what was cut on the way."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[tuple[Sequence[int], Vectors]] = []
        self._count = 0
        self._cut: dict[int, int | None] = {}

    def add(self, places: Sequence[int], answer: Answer) -> None:
        """Take the answer to the inputs at these places of the call."""
        self._parts.append((places, answer.vectors))
        self._count += len(places)
        self._cut |= {places[index]: answer.rows[index].length for index in answer.truncated}

    def vectors(self) -> Vectors:
        """All vectors in the order of the inputs, after one warning if some were cut."""
        self.warn()
        first = self._parts[0][1]
        if len(self._parts) == 1:
            return first
        vectors = np.empty((self._count, first.shape[1]), dtype=np.float32)
        for places, part in self._parts:
            vectors[places] = part
        return vectors

    def warn(self) -> None:
        """Tell the caller which inputs were cut, at the line that called embergem."""
        if self._cut:
            indices = sorted(self._cut)
            lengths = [length for index in indices if (length := self._cut[index]) is not None]
            warnings.warn(
                f"{len(indices)} of {self._count} inputs were cut to the limit of {self._limit} tokens: "
                f"indices {_brief(indices)}" + (f" of {_brief(lengths)} tokens" if lengths else ""),
                TruncationWarning,
                stacklevel=outside(),
            )


def _brief(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8])
    return shown + (f", and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def outside() -> int:
    """The `stacklevel` of the nearest caller outside embergem."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "embergem":
        frame, level = frame.f_back, level + 1
    return level
