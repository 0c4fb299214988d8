"""The everyday Python API."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embergem.checkpoint.resolve import resolve
from embergem.engine import Engine, Request
from embergem.engine.request import Vectors
from embergem.errors import InvalidRequest, InvalidTask, TruncationWarning
from embergem.prompts import Task

Texts = str | Iterable[str] | Iterable[Sequence[int]]


class Embedder:
    """Turns texts into vectors. One object may be used from many threads.

    Args:
        model: Hub id, alias, or directory; None is the default model, all-MiniLM-L6-v2.
        dtype: Arithmetic of the large products: "float32"; "int16", faster and near lossless; "auto", which is int16
            where it was measured to come within a cosine of 0.9999 of float32.
        threads: Most threads to compute with; None is one a core.
        device: None or "cpu".

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be had; see `embergem.errors`.

    Example:
        >>> from embergem import Embedder
        >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
        ...     vectors = embedder.embed(["What is graphene?", "a carbon lattice"], task="clustering")
        >>> vectors.shape, vectors.dtype
        ((2, 96), dtype('float32'))
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        dtype: str = "float32",
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        self._engine = Engine.load(resolve(model), dtype=dtype, threads=threads, device=device)

    @property
    def model(self) -> str:
        """Name of the model: its hub id, or the last part of its directory."""
        return self._engine.id

    @property
    def dtype(self) -> str:
        """Arithmetic in use, "float32" or "int16"."""
        return self._engine.dtype

    @property
    def dimensions(self) -> int:
        """Full width of the vectors."""
        return self._engine.dimensions

    @property
    def allowed_dimensions(self) -> tuple[int, ...]:
        """Sizes that `dimensions=` may ask for, largest first."""
        return self._engine.allowed_dimensions

    @property
    def limit(self) -> int:
        """Most tokens of one input, special tokens included."""
        return self._engine.limit

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names that `task=` may have; empty for a model without prompts."""
        return self._engine.tasks

    def embed(
        self,
        texts: Texts,
        *,
        task: Task | str | None = None,
        title: str | Sequence[str | None] | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Vectors:
        """Embed texts, or lists of token ids, as they are given; nothing is added unless `task` asks for it.

        Args:
            texts: Strings, or lists of token ids taken verbatim. One string counts as a list of one.
            task: Puts the model's prompt for this task around each text; see `tasks`.
            title: For documents: one title for all, or one a text.
            dimensions: Cut the vectors to this size and scale them to length 1 again; see `allowed_dimensions`.
            truncate: Cut inputs that are too long, with a `TruncationWarning`, instead of refusing them.

        Returns:
            float32 array (n, dimensions) in the order of `texts`, each row of length 1 for models that normalise.

        Raises:
            InvalidRequest: The input cannot be embedded as it stands; the subclass and the message say why.
        """
        inputs = _as_list(texts)
        is_text = isinstance(inputs[0], str) if inputs else True
        request = Request(
            texts=cast("list[str]", inputs) if is_text else None,
            ids=None if is_text else cast("list[Sequence[int]]", inputs),
            task=None if task is None else str(task),
            titles=_titles(title, len(inputs), is_text),
            dimensions=dimensions,
            truncate=truncate,
        )
        if task is not None and not is_text:
            raise InvalidTask(f"task={str(task)!r} needs texts; token ids are embedded as they are", param="task")
        result = self._engine.embed(request)
        if cut := result.truncated:
            lengths = [result.rows[index].length for index in cut]
            warnings.warn(
                f"{len(cut)} of {len(inputs)} inputs were cut to the limit of {self.limit} tokens: "
                f"indices {_brief(cut)} of {_brief(lengths)} tokens",
                TruncationWarning,
                stacklevel=2,
            )
        return result.vectors

    def embed_query(self, texts: Texts, *, dimensions: int | None = None, truncate: bool = False) -> Vectors:
        """Embed search queries, with the model's query prompt where it declares one. See `embed`."""
        return self.embed(texts, task=self._task(Task.QUERY), dimensions=dimensions, truncate=truncate)

    def embed_documents(
        self,
        texts: Texts,
        titles: str | Sequence[str | None] | None = None,
        *,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Vectors:
        """Embed documents (code too) with the model's document prompt where it declares one. See `embed`."""
        task = self._task(Task.DOCUMENT)
        return self.embed(texts, task=task, title=titles, dimensions=dimensions, truncate=truncate)

    def similarity(self, a: ArrayLike, b: ArrayLike) -> Vectors:
        """Return the cosine of every vector of `a` (n, d) with every one of `b` (m, d), as (n, m) float32.

        Raises:
            InvalidRequest: The arrays are not vectors of the same size, or one is all zeros.
        """
        first, second = _unit(a, "a"), _unit(b, "b")
        if first.shape[1] != second.shape[1]:
            raise InvalidRequest(
                f"a holds vectors of size {first.shape[1]} and b of size {second.shape[1]}: embed both with the same "
                "model and the same dimensions"
            )
        return first @ second.T

    def close(self) -> None:
        """Free the model. Later calls raise `EngineClosed`."""
        self._engine.close()

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Embedder({self.model!r}, dimensions={self.dimensions}, limit={self.limit})"

    def _task(self, task: Task) -> Task | None:
        return task if task in self.tasks else None


def _as_list(texts: Texts) -> list[str] | list[Sequence[int]]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | bytearray | memoryview):
        raise InvalidRequest("texts is bytes; decode it to str first", param="texts")
    try:
        inputs = list(texts)
    except TypeError:
        raise InvalidRequest(f"texts is of type {type(texts).__name__}; give strings or lists of token ids") from None
    is_text = bool(inputs) and isinstance(inputs[0], str)
    for index, value in enumerate(inputs):
        if isinstance(value, str) != is_text or not isinstance(value, str | Sequence | np.ndarray):
            raise InvalidRequest(
                f"texts[{index}] is of type {type(value).__name__}; give strings only, or lists of token ids only "
                "(one row of ids is a list in a list)",
                param="texts",
            )
    return cast("list[str] | list[Sequence[int]]", inputs)


def _titles(title: str | Sequence[str | None] | None, count: int, is_text: bool) -> list[str | None] | None:
    if title is None:
        return None
    if not is_text:
        raise InvalidTask("a title needs texts; token ids are embedded as they are", param="title")
    titles: list[str | None] = [title] * count if isinstance(title, str) else list(title)
    if len(titles) != count:
        raise InvalidTask(f"{len(titles)} titles for {count} texts; give one for all, or one a text", param="title")
    return titles


def _unit(vectors: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    if array.ndim != 2 or array.shape[1] == 0:
        raise InvalidRequest(f"{name} has shape {np.shape(vectors)}; give one vector (d,) or several (n, d)")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise InvalidRequest(f"{name} holds a vector that is all zeros or not finite; its cosine is undefined")
    unit: NDArray[np.float32] = array / lengths
    return unit


def _brief(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8])
    return shown + (f", and {len(numbers) - 8} more" if len(numbers) > 8 else "")
