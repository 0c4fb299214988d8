"""Texts in as they come, vectors out in order, with a bounded number of both in between."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from embergem.sdk.backend import Answer, Backend
from embergem.sdk.flight import Flight, Landed, Piece
from embergem.sdk.inputs import PIECE_INPUTS, PIECE_SIZE, Texts, check, each
from embergem.sdk.progress import bar
from embergem.types import Request, Vectors

Group = list[Any]  # of strings, or of rows of token ids
Shape = Callable[[Vectors], Iterable[Any]]

AHEAD = 3
"""Pieces that are under way at most: one is computed while the next is tokenized and the last is read."""


class Groups:
    """Gathers inputs, one after the other, into pieces of a bounded size."""

    def __init__(self) -> None:
        self._group: Group = []
        self._size = 0
        self._seen = 0
        self._is_text = True

    def add(self, value: str | Sequence[int]) -> tuple[int, Group] | None:
        """Take an input. Returns the group that was full before it, with the index of its first input.

        Raises:
            InvalidRequest: It is of another kind than the first.
        """
        if self._seen == 0:
            self._is_text = isinstance(value, str)
        check(self._seen, value, self._is_text)
        full = None
        if self._group and (len(self._group) == PIECE_INPUTS or self._size + len(value) > PIECE_SIZE):
            full = self.rest()
        self._group.append(value)
        self._size += len(value)
        self._seen += 1
        return full

    def rest(self) -> tuple[int, Group] | None:
        """Return what has been gathered since the last full group."""
        group = (self._seen - len(self._group), self._group) if self._group else None
        self._group, self._size = [], 0
        return group


class Stream:
    """One stream: where its groups go, how they become requests, and whether it shows a bar."""

    def __init__(self, backend: Backend, make: Callable[[Group], Request], progress: bool | None) -> None:
        self._backend = backend
        self._make = make
        self._progress = progress

    def run(self, texts: Texts, shape: Shape) -> Iterator[Any]:
        """Yield one vector an input."""
        groups = Groups()
        with bar(_count(texts), self._progress) as advance, Flight(self._backend) as flight:
            for value in each(texts):
                if full := groups.add(value):
                    flight.send(full[0], self._bulk(full[1]))
                    if len(flight) == AHEAD:
                        piece = flight.next()
                        yield from shape(self._vectors(piece, piece.answer(), advance))
            if rest := groups.rest():
                flight.send(rest[0], self._bulk(rest[1]))
            for piece in flight:
                yield from shape(self._vectors(piece, piece.answer(), advance))

    async def run_async(self, texts: Texts | AsyncIterable[Any], shape: Shape) -> AsyncIterator[Any]:
        """Yield one vector an input; texts are read on the event loop and tokenized off it."""
        groups = Groups()
        with bar(_count(texts), self._progress) as advance, Flight(self._backend) as flight:
            async for value in _each_async(texts):
                if full := groups.add(value):
                    await asyncio.to_thread(flight.send, full[0], self._bulk(full[1]))
                    if len(flight) == AHEAD:
                        piece = flight.next()
                        for row in shape(self._vectors(piece, await piece.answer_async(), advance)):
                            yield row
            if rest := groups.rest():
                await asyncio.to_thread(flight.send, rest[0], self._bulk(rest[1]))
            for piece in flight:
                for row in shape(self._vectors(piece, await piece.answer_async(), advance)):
                    yield row

    def _bulk(self, group: Group) -> Request:
        """A piece of a stream lets the queries of others go first."""
        return replace(self._make(group), lane="bulk")

    def _vectors(self, piece: Piece, answer: Answer, advance: Callable[[int], None]) -> Vectors:
        landed = Landed(self._backend.limit)
        landed.add(piece.places, answer)
        advance(piece.size)
        return landed.vectors()


def _count(texts: object) -> int | None:
    return len(texts) if isinstance(texts, Sequence) and not isinstance(texts, str) else None


async def _each_async(texts: Texts | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(texts, AsyncIterable):
        async for value in texts:
            yield value
    else:
        for value in each(texts):
            yield value
