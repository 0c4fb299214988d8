"""Cuts a text above the token limit into chunks, which are parts of the text that each fit the limit.

A text is cut between words where it can be. The tokens of a chunk are counted as the model will read it, with prompt
and special tokens, so no chunk is above the limit, whatever the tokenizer joins.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from embergem.bulk.encoder import KEY_BYTES, Encoder

WORD = re.compile(r"\s*\S+\s*\Z|\s*\S+")
LONGEST_WORD = 200
"""Characters of a word above which it is cut into pieces: a text without spaces has no other place to be cut."""


class Chunk(msgspec.Struct, frozen=True):
    """A part of a text: its number among the chunks of the text, and its first and last character plus one."""

    number: int
    start: int
    end: int


class Splitter:
    """Cuts long texts into chunks.

    Args:
        encoder: Counts tokens, and reads the chunks.
        overlap: Tokens that two neighbouring chunks have in common, about: whole words of fewer tokens together.
    """

    def __init__(self, encoder: Encoder, overlap: int) -> None:
        self._encoder = encoder
        self._overlap = overlap
        self._limit = encoder.backend.limit

    def split(self, text: str, title: str | None) -> list[tuple[Chunk, Any]]:
        """Return the chunks of a text, each with its input for the encoder.

        Raises:
            ValueError: Prompt and title leave no room for a text, or the overlap leaves none for progress.
        """
        [empty] = self._lengths([""], title)
        room = self._limit - empty
        if room <= self._overlap:
            raise ValueError(f"the limit of {self._limit} tokens leaves {max(0, room)} for the text")
        ends = list(_ends(text))
        starts = [0, *ends[:-1]]
        words = [text[start:end] for start, end in zip(starts, ends, strict=True)]
        costs = [max(0, length - empty) for length in self._lengths(words, title)]
        chunks: list[tuple[Chunk, Any]] = []
        first = 0
        while first < len(words):
            last, total = first, 0
            while last < len(words) and (total + costs[last] <= room or last == first):
                total += costs[last]
                last += 1
            last, item = self._fit(text, title, starts, ends, first, last)
            chunks.append((Chunk(len(chunks), starts[first], ends[last - 1]), item))
            if last == len(words):
                break
            first = self._next(costs, first, last)
        return chunks

    def _fit(
        self, text: str, title: str | None, starts: Sequence[int], ends: Sequence[int], first: int, last: int
    ) -> tuple[int, Any]:
        """Return the largest `last` for which the words `first` to `last` fit the limit, and their input."""
        while True:
            [item] = self._read([text[starts[first] : ends[last - 1]]], title)
            excess = item.length - self._limit
            if excess <= 0 or last - first == 1:
                return last, item
            last = max(first + 1, last - max(1, (last - first) // 20))

    def _next(self, costs: Sequence[int], first: int, last: int) -> int:
        """Return the first word of the next chunk: words of at most `overlap` tokens are in both chunks."""
        tokens, begin = 0, last
        while begin - 1 > first and tokens + costs[begin - 1] <= self._overlap:
            begin -= 1
            tokens += costs[begin]
        return begin

    def _lengths(self, texts: Sequence[str], title: str | None) -> list[int]:
        return [item.length for item in self._read(texts, title)]

    def _read(self, texts: Sequence[str], title: str | None) -> list[Any]:
        return self._encoder.read(texts, None if title is None else [title] * len(texts))


def _ends(text: str) -> Iterator[int]:
    """Yield the end of each word of a text, or of each piece of a long word."""
    start = 0
    for match in WORD.finditer(text):
        end = match.end()
        while end - start > LONGEST_WORD:
            start += LONGEST_WORD // 4
            yield start
        yield end
        start = end
    if start < len(text):
        yield len(text)


def pooled_key(keys: Sequence[bytes]) -> bytes:
    """Return the key of the mean of several inputs, given their keys."""
    return hashlib.blake2b(b"".join(keys), digest_size=KEY_BYTES, person=b"mean").digest()
