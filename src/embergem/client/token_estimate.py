"""Estimates the tokens of requests to a server, because a client has no tokenizer.

Token ids are counted. The tokens of a text depend on the model and the language: a token of English has about four
characters, a token of Chinese one. The estimate begins high and then follows the token counts in the server's answers.

Separate because it is arithmetic without any HTTP, which the tests check by itself.
"""

from collections.abc import Iterator

from embergem.types import Request

FIRST_RATE = 1.0
"""Tokens per character before the first answer; texts of common languages have fewer."""

MIN_CHARACTERS = 1000
"""Characters from which on an answer is used: below, special tokens and prompts are too large a share."""

DECREASE = 0.5
"""Share of the difference by which an answer lowers the rate. An answer raises it at once: a part that is too small
costs less than one that is too large."""


class TokenEstimate:
    """Tokens of the inputs of one model: exact for token ids, an estimate that tends to be high for texts.

    Args:
        limit: Most tokens that the model reads of an input.

    Attributes:
        tokens_per_character: The present rate for texts.

    Example:
        >>> from embergem.types import Request
        >>> estimate = TokenEstimate(limit=512)
        >>> list(estimate.sizes(Request(texts=["four", "x" * 10_000]))), list(estimate.sizes(Request(ids=[[5, 6, 7]])))
        ([4, 512], [3])
        >>> estimate.learn(Request(texts=["graphene " * 400]), tokens=900)
        >>> estimate.tokens_per_character
        0.625
    """

    def __init__(self, limit: int) -> None:
        self.tokens_per_character = FIRST_RATE
        self._limit = limit

    def sizes(self, request: Request) -> Iterator[int]:
        """Yield the tokens of each input, title included, in order."""
        if request.texts is None:
            yield from (len(row) for row in request.ids or ())
            return
        for characters in _characters(request):
            yield min(round(self.tokens_per_character * characters), self._limit)

    def learn(self, request: Request, tokens: int) -> None:
        """Adjust the rate to the number of tokens that a server read of a request without truncation."""
        characters = sum(_characters(request)) if request.texts is not None else 0
        if characters >= MIN_CHARACTERS:
            rate = tokens / characters
            self.tokens_per_character = max(
                rate, self.tokens_per_character + DECREASE * (rate - self.tokens_per_character)
            )


def _characters(request: Request) -> Iterator[int]:
    """Yield the characters of each text and its title."""
    for index, text in enumerate(request.texts or ()):
        yield len(text) + len((request.titles and request.titles[index]) or "")
