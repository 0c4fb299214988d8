"""`Embedder`: the blocking Python API."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from embergem.keywords import checked_class
from embergem.open_backend import to_backend
from embergem.options import LoadKeywords
from embergem.progress import embedding_progress
from embergem.sdk.backend import Backend
from embergem.sdk.base import (
    EmbedderBase,
    EmbedOptions,
    PromptedOptions,
    Ranked,
    StreamOptions,
    rank_documents,
    text_list,
)
from embergem.sdk.chunk_queue import PendingChunk, PendingChunks
from embergem.sdk.chunks import is_one_chunk
from embergem.sdk.inputs import Texts, Title, stand_in
from embergem.sdk.outputs import Output, converter
from embergem.sdk.results import ResultCollector, vectors_of
from embergem.tasks import Task
from embergem.types import Request, Vectors


@checked_class
class Embedder(EmbedderBase):
    """Turns texts into vectors. One object can be used from many threads.

    Args:
        model: Hub id, alias, directory or GGUF file; None is the default model, all-MiniLM-L6-v2. Or the address of an
            embergem server, such as "http://localhost:1234": the methods then return the same bits from there
            (`Client` has options for the connection). Or a backend that is open already, such as an `Engine`.
        dtype: Arithmetic of the large products: "float32" (also None); "bfloat16", weights in half the memory, and
            as fast as int8 on processors with AMX; "int16", faster and near lossless; "int8", least memory, and fastest
            on processors with VNNI; "auto", which is int16 where its vectors were measured to have a cosine of at least
            0.9999 to those of float32.
        threads: Most threads to compute with; None is one a core.
        device: None or "cpu".
        dense_from: Model whose dense layers replace those that this model's files lack.
        allow_missing_dense: Load a model without the dense layers that its family has. Its vectors are then in a vector
            space of their own.
        arch: Family that the model must have, such as "embeddinggemma"; None accepts every family.
        window: Sliding window in tokens that replaces the one in config.json, where that one is wrong.
        tokenizer: Path of a tokenizer.json that replaces the checkpoint's. The vectors are then in a vector space of
            their own.
        revision: Branch, tag or commit of a hub model; None is the default branch.
        hf_cache_path: Cache directory of `huggingface_hub`; None is that library's default ($HF_HOME/hub).
        token_source: Source of the hub's access token: "cache" (also None: the variable HF_TOKEN, or the file in which
            `hf auth login` stores the token), "none", "literal:TOKEN", "env:VARIABLE" or "path:FILE".

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded; see `embergem.errors`.
        UnsupportedOption: An option does not exist in this engine, or does not apply to this model.
        ServerUnreachable, UnexpectedAnswer: No embergem server answers at the address.

    Example:
        >>> from embergem import Embedder
        >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
        ...     vectors = embedder.embed(["What is graphene?", "a carbon lattice"], task="clustering")
        >>> vectors.shape, vectors.dtype
        ((2, 96), dtype('float32'))
    """

    def __init__(self, model: str | Path | Backend | None = None, **options: Unpack[LoadKeywords]) -> None:
        super().__init__(to_backend(model, **options), model, options)

    @overload
    def embed(self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[EmbedOptions]) -> Vectors: ...
    @overload
    def embed(self, texts: Texts, *, output: Literal["list"], **options: Unpack[EmbedOptions]) -> list[list[float]]: ...
    @overload
    def embed(
        self, texts: Texts, *, output: Literal["float16"], **options: Unpack[EmbedOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    def embed(self, texts: Texts, *, output: Literal["int8"], **options: Unpack[EmbedOptions]) -> NDArray[np.int8]: ...
    @overload
    def embed(
        self, texts: Texts, *, output: Literal["binary"], **options: Unpack[EmbedOptions]
    ) -> NDArray[np.uint8]: ...
    def embed(
        self,
        texts: Texts,
        *,
        task: Task | str | None = None,
        title: Title = None,
        dimensions: int | None = None,
        truncate: bool = False,
        output: Output = "array",
        progress: bool | None = None,
    ) -> Any:
        """Embed texts or lists of token ids, without a prompt unless `task` names one.

        Args:
            texts: Strings, or lists of token ids, which the model reads as they are. One string is a list of one.
            task: Task whose prompt is put around each text; see `tasks`.
            title: For documents: one title for all texts, or one for each.
            dimensions: Cut the vectors to this size and scale them to length 1 again; see `allowed_dimensions`.
            truncate: Cut inputs above `limit`, with a `TruncationWarning`, instead of refusing them.
            output: "array"; "list" of lists of floats; "float16"; "int8", each row scaled so that its largest number
                becomes ±127; "binary", the signs packed eight to a byte, (n, dimensions / 8) uint8.
            progress: Whether to show a bar on stderr; None shows it on a terminal from 512 texts on.

        Returns:
            float32 array (n, dimensions) in the order of `texts`, each row of length 1 for models that normalise; or
            the form that `output` names. No texts give an array (0, dimensions).

        Raises:
            InvalidRequest: The request is invalid; the subclass and the message say why. `input_index` is the place in
                `texts` of the input at fault.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.embed(["graphene", "apples"], task="clustering", output="binary").shape
            (2, 12)
        """
        convert = converter(output)
        return convert(self._vectors(self._request(texts, task, title, dimensions, truncate, blocking=True), progress))

    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[PromptedOptions]
    ) -> Vectors: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["list"], **options: Unpack[PromptedOptions]
    ) -> list[list[float]]: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["float16"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["int8"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["binary"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.uint8]: ...
    def embed_query(self, texts: Texts, *, output: Output = "array", **options: Unpack[PromptedOptions]) -> Any:
        """Embed search queries, with the model's query prompt where it declares one.

        Arguments, result and errors are those of `embed`.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.embed_query("What is graphene?").shape
            (1, 96)
        """
        return self.embed(texts, task=self._task_or_none(Task.QUERY), output=output, **options)

    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["array"] = ..., **options: Unpack[PromptedOptions]
    ) -> Vectors: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["list"], **options: Unpack[PromptedOptions]
    ) -> list[list[float]]: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["float16"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["int8"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["binary"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.uint8]: ...
    def embed_documents(
        self, texts: Texts, titles: Title = None, *, output: Output = "array", **options: Unpack[PromptedOptions]
    ) -> Any:
        """Embed documents (code too) with the model's document prompt where it declares one.

        Arguments, result and errors are those of `embed`. `titles` is one title for all texts, or one for each.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.embed_documents(["A carbon lattice."], ["Graphene"]).shape
            (1, 96)
        """
        task = self._task_or_none(Task.DOCUMENT)
        return self.embed(texts, task=task, title=titles, output=output, **options)

    @overload
    def embed_stream(
        self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[StreamOptions]
    ) -> Iterator[Vectors]: ...
    @overload
    def embed_stream(
        self, texts: Texts, *, output: Literal["list"], **options: Unpack[StreamOptions]
    ) -> Iterator[list[float]]: ...
    @overload
    def embed_stream(
        self, texts: Texts, *, output: Literal["float16", "int8", "binary"], **options: Unpack[StreamOptions]
    ) -> Iterator[NDArray[Any]]: ...
    def embed_stream(
        self,
        texts: Texts,
        *,
        task: Task | str | None = None,
        title: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        output: Output = "array",
        progress: bool | None = None,
    ) -> Iterator[Any]:
        """Embed texts from an iterable of any length, and yield their vectors in order.

        A bounded number of texts and vectors is in memory: the iterable is read at most three chunks of 256 texts
        ahead, which are tokenized while others are computed. Leaving the loop early stops the work. The arguments are
        those of `embed`; `title` is one title for all texts.

        Yields:
            One vector a text: (dimensions,) float32, or the form that `output` names.

        Raises:
            InvalidRequest: An input is invalid. The error is raised when its chunk is read, before the vectors of up to
                three earlier chunks.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     sum(vector.shape == (96,) for vector in embedder.embed_stream(f"text {n}" for n in range(1000)))
            1000
        """
        return self._stream(task, title, dimensions, truncate, progress).run(texts, converter(output))

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        titles: Title = None,
        *,
        top: int | None = None,
        **options: Unpack[PromptedOptions],
    ) -> list[Ranked]:
        """Sort documents by their cosine to a query, with the query prompt and the document prompt of the model.

        Args:
            query: Text of the query.
            documents: Texts of the documents.
            titles: One title for all documents, or one for each.
            top: Number of documents to return, the best first; None is all.
            options: `dimensions`, `truncate`, `progress`, as in `embed`.

        Returns:
            `Ranked(index, score, text)` of each document, best first.

        Raises:
            InvalidRequest: As in `embed`.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     for found in embedder.rank("What is graphene?", ["apples", "graphene layers"]):
            ...         print(found.index, found.text, f"{found.score:.2f}")
            1 graphene layers 0.72
            0 apples 0.67
        """
        texts = text_list(documents)
        scores = self.similarity(self.embed_query([query], **options), self.embed_documents(texts, titles, **options))
        return rank_documents(scores, texts, top)

    def count_tokens(self, texts: Texts, *, task: Task | str | None = None, title: Title = None) -> list[int]:
        """Count the tokens of each input before truncation.

        The count includes the prompt of `task` and the special tokens. An input above `limit` needs `truncate`.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.count_tokens(["", "graphene"]), embedder.limit
            ([2, 8], 128)
        """
        request = self._request(texts, task, title)
        return list(self._backend.lengths(request)) if request else []

    def close(self) -> None:
        """Free the model. Later calls raise `EngineClosed`."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _vectors(self, request: Request, progress: bool | None) -> Vectors:
        if not request:
            return self._vectors(stand_in(request), False)[:0]
        if is_one_chunk(request) and not progress:
            chunk = PendingChunk(0, len(request), self._backend.submit(request))
            return vectors_of(chunk.result(), self.limit)
        collector = ResultCollector(self.limit)
        with (
            embedding_progress(len(request), progress) as advance,
            PendingChunks(self._backend) as pending,
        ):
            pending.submit_all(request)
            for chunk in pending:
                collector.add(chunk.places, chunk.result())
                advance(chunk.size)
        return collector.vectors()
