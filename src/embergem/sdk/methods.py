"""What `Embedder` and `AsyncEmbedder` have in common: everything but the waiting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from embergem.errors import UnsupportedOption
from embergem.sdk.backend import Backend
from embergem.sdk.inputs import Texts, as_list, to_request
from embergem.sdk.outputs import similarity
from embergem.sdk.stream import Stream
from embergem.tasks import Task
from embergem.types import Request, Vectors

Title = str | Sequence[str | None] | None


class SideOptions(TypedDict, total=False):
    """Arguments that every method which embeds takes."""

    dimensions: int | None
    truncate: bool
    progress: bool | None


class Options(SideOptions, total=False):
    """Arguments of `embed`."""

    task: Task | str | None
    title: Title


class StreamOptions(SideOptions, total=False):
    """Arguments of `embed_stream`."""

    task: Task | str | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of a ranking.

    Attributes:
        index: Its place among the documents given, from 0.
        score: Cosine between it and the query, from -1 to 1.
        text: The document itself.
    """

    index: int
    score: float
    text: str


class Methods:
    """Base of the embedders: what they say about their model, and how a call becomes a request."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def model(self) -> str:
        """Name of the model: its hub id, or the last part of its directory."""
        return self._backend.id

    @property
    def dtype(self) -> str:
        """Arithmetic in use, such as "float32" or "int16"."""
        return self._backend.dtype

    @property
    def dimensions(self) -> int:
        """Full width of the vectors."""
        return self._backend.dimensions

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Sizes that `dimensions=` may ask for, largest first."""
        return self._backend.allowed_dimensions

    @property
    def limit(self) -> int:
        """Most tokens of one input, special tokens included."""
        return self._backend.limit

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names that `task=` may have; empty for a model without prompts."""
        return self._backend.tasks

    @property
    def fingerprint(self) -> str | None:
        """Name of the space the vectors are in, 64 hex digits. Never compare vectors of two spaces.

        It is the same on every machine, for every layout of the same weights, and in every arithmetic. None where a
        server does not say.
        """
        return self._backend.fingerprint

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Vectors:
        """Return the cosine of every vector of `a` (n, d) with every one of `b` (m, d), as (n, m) float32.

        Vectors in every form that `output=` gives are taken; arrays of uint8 count as packed bits, whose cosine is
        that of vectors of ±1.

        Raises:
            InvalidRequest: The arrays are not vectors of the same size and kind, or one is all zeros.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.similarity([[3.0, 0.0]], [[1.0, 0.0], [0.0, -2.0]])
            array([[1., 0.]], dtype=float32)
        """
        return similarity(a, b)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, dimensions={self.dimensions}, limit={self.limit})"

    def _request(
        self,
        texts: Texts,
        task: Task | str | None = None,
        title: Title = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Request:
        return to_request(
            as_list(texts),
            task=None if task is None else str(task),
            title=title,
            dimensions=dimensions,
            truncate=truncate,
        )

    def _stream(self, task: Task | str | None, dimensions: int | None, truncate: bool, progress: bool | None) -> Stream:
        def make(group: Texts) -> Request:
            return self._request(group, task, dimensions=dimensions, truncate=truncate)

        return Stream(self._backend, make, progress)

    def _side(self, task: Task) -> Task | None:
        return task if task in self.tasks else None


def best(scores: Vectors, documents: Sequence[str], top: int | None) -> list[Ranked]:
    """Order documents by their scores (1, n), best first; equal ones stay in order.

    Raises:
        UnsupportedOption: `top` is below 1.
    """
    if top is not None and top < 1:
        raise UnsupportedOption(f"top={top} is not possible; give 1 or more, or None for all", param="top")
    order = np.argsort(-scores[0], kind="stable")[:top]
    return [Ranked(int(index), float(scores[0, index]), documents[index]) for index in order]


def texts_only(documents: Iterable[str]) -> list[str]:
    """Return documents as a list; a ranking hands them back.

    Raises:
        InvalidRequest: One is no text.
    """
    found: list[Any] = list(as_list(documents))
    for index, document in enumerate(found):
        if not isinstance(document, str):
            raise UnsupportedOption(f"documents[{index}] is of type {type(document).__name__}; rank takes texts")
    return found
