"""The nouns that every entry point and the engine share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

Ids = NDArray[np.uint32]

Lane = Literal["interactive", "bulk"]
"""How urgent a request is: "interactive" goes first, "bulk" has a guaranteed share of the rest."""

LANES: tuple[Lane, ...] = ("interactive", "bulk")
"""From the most urgent on."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants embedded.

    Exactly one of `texts` and `ids` is set; neither is empty. `task` is a name or alias as the caller wrote it;
    `titles` has one entry a text. `dimensions` asks for a Matryoshka cut. `truncate` permits cutting to the limit.

    `lane` is how urgent it is at most: what is large is bulk whatever it says, since nobody waits interactively for
    that much. Within a lane, `tenant`s share by tokens. `deadline` is a time of `time.monotonic()` after which nobody
    wants the answer. With `blocking` the caller does nothing until the answer is there: what is small may be computed
    on its thread. `admit` is told the tokens once they are counted and before they are queued, on the thread that
    submits: what it raises refuses the request.
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
        """Number of inputs."""
        return len(self.texts or self.ids or ())

    @property
    def size(self) -> int:
        """Characters of all texts, or token ids of all rows."""
        return sum(map(len, self.texts or self.ids or ()))


@dataclass(frozen=True, slots=True)
class Row:
    """One tokenized input: `ids` as the model reads them, `length` the tokens it had before any cut."""

    ids: Ids
    length: int

    @property
    def truncated(self) -> bool:
        """Whether the input was cut."""
        return self.length > len(self.ids)


@dataclass(frozen=True, slots=True)
class Result:
    """Vectors in input order, shape `(n, dimensions)`, and what was read to make them.

    `cached` are the indices of the inputs whose vectors were known before.
    """

    vectors: Vectors
    rows: Sequence[Row]
    cached: Sequence[int] = ()

    @property
    def tokens(self) -> int:
        """Tokens the model read, special tokens included."""
        return sum(self.counts)

    @property
    def counts(self) -> list[int]:
        """Tokens that the model read of each input."""
        return [len(row.ids) for row in self.rows]

    @property
    def truncated(self) -> list[int]:
        """Indices of the inputs that were cut."""
        return [index for index, row in enumerate(self.rows) if row.truncated]
