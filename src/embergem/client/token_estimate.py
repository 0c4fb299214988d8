"""How many tokens a request to a server will take, by a client that has no tokenizer.

Rows of token ids are counted. What a text takes depends on the model and on the language: a token of English has about
four characters, one of Chinese one. So the client begins with a careful guess and goes by what answers say they used.
"""

from collections.abc import Iterator

from embergem.types import Request

FIRST_GUESS = 1.0
"""Tokens of a character before any answer: no language that is usual has more."""

TELLING = 1000
"""Characters from which on an answer is believed: in few, special tokens and prompts say more than the language."""

EASE = 0.5
"""Share of the way that the figure goes down with an answer. Up it goes at once: too small a piece costs little."""


class TokenGuess:
    """Tokens of the inputs of one model: exact for ids, and for texts a guess that would rather be too high.

    `limit` is the most tokens that are read of an input; what is longer is cut, or the request is refused.

    Example:
        >>> from embergem.types import Request
        >>> guess = TokenGuess(limit=512)
        >>> list(guess.sizes(Request(texts=["four", "x" * 10_000]))), list(guess.sizes(Request(ids=[[5, 6, 7]])))
        ([4, 512], [3])
        >>> guess.learn(Request(texts=["graphene " * 400]), tokens=900)
        >>> guess.per_character
        0.625
    """

    def __init__(self, limit: int) -> None:
        self.per_character = FIRST_GUESS
        self._limit = limit

    def sizes(self, request: Request) -> Iterator[int]:
        """Tokens of each input, title included, in order."""
        if request.texts is None:
            yield from (len(row) for row in request.ids or ())
            return
        for characters in _characters(request):
            yield min(round(self.per_character * characters), self._limit)

    def learn(self, request: Request, tokens: int) -> None:
        """Take note of how many tokens were read of a request, none of whose inputs was cut."""
        characters = sum(_characters(request)) if request.texts is not None else 0
        if characters >= TELLING:
            seen = tokens / characters
            self.per_character = max(seen, self.per_character + EASE * (seen - self.per_character))


def _characters(request: Request) -> Iterator[int]:
    """Characters of each text with its title."""
    for index, text in enumerate(request.texts or ()):
        yield len(text) + len((request.titles and request.titles[index]) or "")
