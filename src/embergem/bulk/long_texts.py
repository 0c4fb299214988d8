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
from embergem.errors import InputTooLong, UnsupportedOption

WORD = re.compile(r"\s*\S+\s*\Z|\s*\S+")
LONGEST_WORD = 32
"""Characters of a word above which it is cut into pieces: a text without spaces has no other place to be cut."""

PIECE = 16
"""Characters of a piece of a long word."""


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
            InputTooLong: Prompt and title leave no room for a text.
            UnsupportedOption: The overlap is as large as a chunk.
        """
        [empty] = self._lengths([""], title)
        room = self._limit - empty
        if room <= self._overlap:
            raise UnsupportedOption(
                f"chunk_overlap={self._overlap} leaves no room: a chunk has {max(0, room)} tokens besides its prompt. "
                "Give fewer.",
                param="chunk_overlap",
            )
        ends = list(_ends(text))
        starts = [0, *ends[:-1]]
        words = [text[start:end] for start, end in zip(starts, ends, strict=True)]
        costs = [max(1, length - empty) for length in self._lengths(words, title)]
        chunks: list[tuple[Chunk, Any]] = []
        first = 0
        while True:
            guess, total = first + 1, costs[first]
            while guess < len(words) and total + costs[guess] <= room:
                total += costs[guess]
                guess += 1
            last, item = self._fit(text, title, starts, ends, first, guess, empty)
            chunks.append((Chunk(len(chunks), starts[first], ends[last - 1]), item))
            if last == len(words):
                return chunks
            first = self._next(costs, first, last)

    def _fit(
        self,
        text: str,
        title: str | None,
        starts: Sequence[int],
        ends: Sequence[int],
        first: int,
        guess: int,
        empty: int,
    ) -> tuple[int, Any]:
        """Return the end of the longest run of words from `first` on that fits the limit, about, and its input.

        The sum of the tokens of single words is only near that of a run, so the run is made longer or shorter until it
        is nearly full.
        """
        fits, too_long, found = first, len(ends) + 1, None
        last = guess
        while True:
            [item] = self._read([text[starts[first] : ends[last - 1]]], title)
            if item.length <= self._limit:
                fits, found = last, item
                more = (self._limit - item.length) * (last - first) // max(1, item.length - empty)
                if not more or last == len(ends):
                    break
                last = min(last + more, len(ends), too_long - 1)
            else:
                too_long = last
                last = (fits + too_long) // 2  # the tokens above the limit are not counted
            if too_long - fits <= 1 or last <= fits:
                break
        if found is None:
            raise InputTooLong(
                f"{text[starts[first] : ends[first]]!r} alone has more tokens than the limit of {self._limit} allows "
                "beside prompt and title. Leave the prompt or the title out, or use a model with a larger limit."
            )
        return fits, found

    def _next(self, costs: Sequence[int], first: int, last: int) -> int:
        """Return the first word of the next chunk: words of at most `overlap` tokens are in both chunks."""
        tokens, begin = 0, last
        while begin - 1 > first and tokens + costs[begin - 1] <= self._overlap:
            begin -= 1
            tokens += costs[begin]
        return begin

    def _lengths(self, texts: Sequence[str], title: str | None) -> list[int]:
        return [item.length for item in self._read(texts, title)]

    def _read(self, texts: Sequence[str], title: str | None) -> Sequence[Any]:
        return self._encoder.read(texts, None if title is None else [title] * len(texts))


def _ends(text: str) -> Iterator[int]:
    """Yield the end of each word of a text, or of each piece of a long word."""
    start = 0
    for match in WORD.finditer(text):
        end = match.end()
        while end - start > LONGEST_WORD:
            start += PIECE
            yield start
        yield end
        start = end
    if start < len(text):
        yield len(text)


def pooled_key(keys: Sequence[bytes]) -> bytes:
    """Return the key of the mean of several inputs, given their keys."""
    return hashlib.blake2b(b"".join(keys), digest_size=KEY_BYTES, person=b"mean").digest()
