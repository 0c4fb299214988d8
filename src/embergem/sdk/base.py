"""Base class of `Embedder` and `AsyncEmbedder`: the model's properties, and how a call becomes a request."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from embergem.errors import InvalidType, UnsupportedOption
from embergem.keywords import checked_class
from embergem.sdk.backend import Backend
from embergem.sdk.inputs import Texts, Title, input_list, to_request
from embergem.sdk.outputs import similarity
from embergem.sdk.stream import EmbeddingStream
from embergem.tasks import Task
from embergem.types import Request, Vectors


class PromptedOptions(TypedDict, total=False):
    """Keyword arguments of `embed_query`, `embed_documents` and `rank`."""

    dimensions: int | None
    truncate: bool
    progress: bool | None


class EmbedOptions(PromptedOptions, total=False):
    """Keyword arguments of `embed`."""

    task: Task | str | None
    title: Title


class StreamOptions(PromptedOptions, total=False):
    """Keyword arguments of `embed_stream`."""

    task: Task | str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of a ranking.

    Attributes:
        index: Place of the document in the list given, from 0.
        score: Cosine between the document and the query, from -1 to 1.
        text: The document itself.
    """

    index: int
    score: float
    text: str


@checked_class
class EmbedderBase:
    """What `Embedder` and `AsyncEmbedder` have in common.

    Pickling and copying keep the arguments of the constructor. The other process, or the copy, loads the model again.

    Args:
        backend: Computes the vectors: an engine in this process, or a model of a server.
        model: What the backend was made from: a name, a directory or an address. None if the caller made the backend.
        options: The options that it was made with.
    """

    def __init__(
        self, backend: Backend, model: str | Path | Backend | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        self._backend = backend
        self._model = model
        self._options = options

    def __reduce__(self) -> tuple[Any, ...]:
        if self._options is None or not (self._model is None or isinstance(self._model, str | Path)):
            raise TypeError(
                f"This {type(self).__name__} was made from an open backend, which cannot be pickled or copied. Make it "
                "from the name of a model."
            )
        for name, value in self._options.items():
            if name == "api_key" or (name == "token_source" and str(value).startswith("literal:")):
                raise TypeError(
                    f"{name} is a secret, so this {type(self).__name__} cannot be pickled or copied. Set an "
                    "environment variable: EMBERGEM_API_KEY for a server, token_source='env:NAME' for the hub."
                )
        return _make, (type(self), self._model, dict(self._options))

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
        """Full size of the vectors."""
        return self._backend.dimensions

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Sizes that the argument `dimensions` can have, largest first."""
        return self._backend.allowed_dimensions

    @property
    def limit(self) -> int:
        """Most tokens of one input, special tokens included."""
        return self._backend.limit

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names that the argument `task` can have; empty for a model without prompts."""
        return self._backend.tasks

    @property
    def fingerprint(self) -> str | None:
        """Name of the vector space, 64 hex digits. Vectors of two spaces cannot be compared.

        The name is the same on every machine, for every file layout of the same weights, and in every arithmetic. None
        for a server that does not send it.
        """
        return self._backend.fingerprint

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Vectors:
        """Return the cosine of every vector of `a` (n, d) with every vector of `b` (m, d), as (n, m) float32.

        The vectors can have every form of `output`. Arrays of uint8 are packed bits; their cosine is that of vectors of
        ±1.

        Raises:
            InvalidRequest: The arrays are not vectors of the same size and kind, or a vector is all zeros.

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
        *,
        blocking: bool = False,
    ) -> Request:
        return to_request(
            input_list(texts),
            task=None if task is None else str(task),
            title=title,
            dimensions=dimensions,
            truncate=truncate,
            blocking=blocking,
        )

    def _stream(
        self,
        task: Task | str | None,
        title: str | None,
        dimensions: int | None,
        truncate: bool,
        progress: bool | None,
    ) -> EmbeddingStream:
        def make_request(inputs: Texts) -> Request:
            return self._request(inputs, task, title, dimensions=dimensions, truncate=truncate)

        return EmbeddingStream(self._backend, make_request, progress)

    def _task_or_none(self, task: Task) -> Task | None:
        """Return `task` if the model has a prompt for it."""
        return task if task in self.tasks else None


def _make(kind: Callable[..., EmbedderBase], model: str | Path | None, options: Mapping[str, Any]) -> EmbedderBase:
    """Make a pickled or copied embedder again."""
    return kind(model, **options)


def rank_documents(scores: Vectors, documents: Sequence[str], top: int | None) -> list[Ranked]:
    """Sort documents by their scores (1, n), best first; documents of equal score stay in order.

    Raises:
        UnsupportedOption: `top` is below 1.
    """
    if top is not None and top < 1:
        raise UnsupportedOption(f"top={top} is not possible. Give 1 or more, or None for all documents.", param="top")
    order = np.argsort(-scores[0], kind="stable")[:top]
    return [Ranked(int(index), float(scores[0, index]), documents[index]) for index in order]


def text_list(documents: Iterable[str]) -> list[str]:
    """Return the documents of a ranking as a list.

    Raises:
        InvalidType: A document is not a string; the result of a ranking contains its text.
    """
    found: list[str] = []
    for index, document in enumerate(input_list(documents)):
        if not isinstance(document, str):
            raise InvalidType(
                f"is of type {type(document).__name__}. rank takes documents as texts.",
                param="documents",
                input_index=index,
            )
        found.append(document)
    return found
