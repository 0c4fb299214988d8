"""Types that every entry point and the engine share: `Request`, `Row`, `Result`, and arrays of ids and vectors.

`Request`, `Row` and `Result` are msgspec structs: making or copying one takes 0.2 µs, a frozen dataclass 2 to 4 µs.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""Vectors, shape `(rows, dimensions)`; one vector has shape `(dimensions,)`."""

Ids = NDArray[np.uint32]
"""Token ids of one row or of a packed batch, or offsets into a packed batch; one-dimensional."""

Lane = Literal["interactive", "bulk"]
"""Priority class of a request: interactive requests run first; bulk requests have a guaranteed share of the time."""

LANES: tuple[Lane, ...] = ("interactive", "bulk")
"""All lanes, most urgent first."""


class Request(msgspec.Struct, frozen=True):
    """Inputs to embed, and how to embed them. Copy with changes by `msgspec.structs.replace`.

    Attributes:
        texts, ids: The inputs: texts, or rows of token ids. Exactly one of the two is set, and it is not empty.
        task: Name or alias of a task, as the caller wrote it; its prompt goes around each text.
        titles: One title a text, or None; for tasks whose prompt has a place for a title.
        dimensions: Cut the vectors to this size (Matryoshka); None keeps the full size.
        truncate: Cut inputs to the token limit instead of refusing them.
        lane: The lane to run in. The engine moves a request with many tokens to the bulk lane.
        tenant: Tenants share a lane by tokens; see `engine.scheduler`.
        deadline: Time of `time.monotonic()` after which the request fails with `DeadlineExceeded`.
        blocking: The caller waits for the result on the submitting thread, so the engine may compute a small request
            there.
        admit: Called with the token count before the rows are queued, on the submitting thread and under the engine's
            lock. The request is refused with the exception that it raises.
    """

    texts: Sequence[str] | None = None
    ids: Sequence[Sequence[int]] | None = None
    task: str | None = None
    titles: Sequence[str | None] | None = None
    dimensions: int | None = None
    truncate: bool = False
    lane: Lane = "interactive"
    tenant: str = ""
    deadline: float | None = None
    blocking: bool = False
    admit: Callable[[int], None] | None = None

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.texts or self.ids or ())

    @property
    def size(self) -> int:
        """Characters of all texts, or token ids of all rows."""
        return sum(map(len, self.texts or self.ids or ()))


class Row(msgspec.Struct, frozen=True, gc=False):
    """One tokenized input.

    Attributes:
        ids: The token ids that the model reads, special tokens included, shape `(tokens,)`.
        length: Number of tokens before truncation. A text that was cut is counted only if that was asked for; else this
            is some number above the limit.
    """

    ids: Ids
    length: int

    @property
    def truncated(self) -> bool:
        """Whether the input was cut."""
        return self.length > len(self.ids)


class AlignedToken(NamedTuple):
    """One token of a text with its prompt.

    Attributes:
        id: Index in the vocabulary.
        token: The entry of the vocabulary, such as "##ing".
        span: First and end position in the text, in characters; None for the special tokens around it.
        kept: Whether the model reads the token; it does not read those that are cut.
    """

    id: int
    token: str
    span: tuple[int, int] | None
    kept: bool


class Result(msgspec.Struct, frozen=True):
    """The vectors of a request.

    Attributes:
        vectors: One vector an input, in input order, shape `(inputs, dimensions)`.
        rows: The tokenized inputs.
        cached: Indices of the inputs whose vectors came from the cache.
    """

    vectors: Vectors
    rows: Sequence[Row]
    cached: Sequence[int] = ()

    @property
    def tokens(self) -> int:
        """Tokens of all inputs after truncation, special tokens included."""
        return sum([len(row.ids) for row in self.rows])

    @property
    def counts(self) -> list[int]:
        """Tokens of each input after truncation."""
        return [len(row.ids) for row in self.rows]

    @property
    def truncated(self) -> list[int]:
        """Indices of the inputs that were cut."""
        return [index for index, row in enumerate(self.rows) if row.length > len(row.ids)]


def pack(rows: Sequence[Sequence[int] | Ids]) -> tuple[Ids, Ids]:
    """Concatenate rows to one packed batch: token ids `(tokens,)` and row offsets `cu_seqlens` `(rows + 1,)`.

    >>> pack([[5, 6], [7]])
    (array([5, 6, 7], dtype=uint32), array([0, 2, 3], dtype=uint32))
    """
    if len(rows) == 1:  # most requests are one query: np.concatenate and np.cumsum would take 4 µs
        return np.asarray(rows[0], dtype=np.uint32), np.array((0, len(rows[0])), dtype=np.uint32)
    ids = np.concatenate([np.asarray(row, dtype=np.uint32) for row in rows])
    return ids, np.cumsum([0, *map(len, rows)]).astype(np.uint32)
