"""`Tokenizer`: the tokenizer of a loaded model, with the methods that programs use most of transformers' tokenizers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.embedder import Embedder
from embergem.engine import Engine, Request
from embergem.errors import UnsupportedOption


class Tokenizer:
    """The tokenizer of a model in this process.

    Args:
        embedder: The loaded model.

    Raises:
        UnsupportedOption: The model is at a server.

    Example:
        >>> from embergem.sentence_transformers import SentenceTransformer
        >>> model = SentenceTransformer("tests/data/goldens/gemma3_text")
        >>> len(model.tokenizer.encode("graphene")), len(model.tokenizer.encode("graphene", add_special_tokens=False))
        (8, 6)
    """

    def __init__(self, embedder: Embedder) -> None:
        backend = embedder._backend
        if not isinstance(backend, Engine):
            raise UnsupportedOption(
                "The model is at a server, so its tokenizer is not here. Count tokens with SentenceTransformer.tokens, "
                "or send the texts to /v1/tokenize."
            )
        self._engine = backend

    @property
    def model_max_length(self) -> int:
        """Most tokens of an input, special tokens included."""
        return self._engine.limit

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids of a text, not cut to the limit."""
        return self._engine.tokenize(text, special=add_special_tokens)

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""
        return self._engine.detokenize(token_ids, skip_special=skip_special_tokens)

    def __call__(self, text: str | Sequence[str], add_special_tokens: bool = True) -> dict[str, Any]:
        """Return `input_ids` and `attention_mask` as lists: one of each for a text, and lists of them for texts."""
        if isinstance(text, str):
            ids = self.encode(text, add_special_tokens)
            return {"input_ids": ids, "attention_mask": [1] * len(ids)}
        rows = [self.encode(one, add_special_tokens) for one in text]
        return {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}

    def rows(self, texts: Sequence[str], limit: int, task: str | None = None) -> tuple[list[list[int]], list[int]]:
        """Return the token ids of each text, cut to `limit` tokens with special tokens, and the indices of cut texts.

        `limit` is at most the model's own limit.

        Raises:
            UnsupportedOption: `limit` leaves no room for a token of the text.
        """
        request = Request(texts=list(texts), task=task, truncate=True)
        ids = [row.ids.tolist() for row in self._engine.prepare(request)]
        opening, closing = self._special_tokens()
        if limit <= opening + closing:
            raise UnsupportedOption(
                f"max_seq_length={limit} leaves no room beside the {opening + closing} special tokens.",
                param="max_seq_length",
            )
        cut = [index for index, row in enumerate(ids) if len(row) > limit]
        for index in cut:
            row = ids[index]
            ids[index] = row[: limit - closing] + row[len(row) - closing :]
        return ids, cut

    def _special_tokens(self) -> tuple[int, int]:
        """Return the numbers of special tokens before and after a text."""
        bare, whole = self.encode("a", add_special_tokens=False), self.encode("a")
        opening = next(start for start in range(len(whole)) if whole[start : start + len(bare)] == bare)
        return opening, len(whole) - opening - len(bare)


def pad_rows(rows: Sequence[Sequence[int]]) -> Mapping[str, NDArray[np.int64]]:
    """Return rows of ids as `input_ids` and `attention_mask`, both int64 (n, longest); 0 fills the end of a row."""
    width = max(map(len, rows), default=0)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}
