"""The everyday Python API."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from embergem.options import LoadKeywords, LoadOptions
from embergem.sdk.backend import Backend, open_backend
from embergem.sdk.flight import Flight, Landed
from embergem.sdk.inputs import Texts
from embergem.sdk.methods import Methods, Options, Ranked, SideOptions, StreamOptions, Title, best, texts_only
from embergem.sdk.outputs import Output, shaper
from embergem.sdk.progress import bar
from embergem.tasks import Task
from embergem.types import Request, Vectors


class Embedder(Methods):
    """Turns texts into vectors. One object may be used from many threads.

    Args:
        model: Hub id, alias, directory or GGUF file; None is the default model, all-MiniLM-L6-v2. Or the address of an
            embergem server, such as "http://localhost:1234": the same methods give the same bits from there (`Client`
            has more to set).
        dtype: Arithmetic of the large products: "float32" (also None); "bfloat16", weights in half the memory;
            "int16", faster and near lossless; "int8", least memory; "auto", which is int16 where it was measured to
            come within a cosine of 0.9999 of float32.
        threads: Most threads to compute with; None is one a core.
        device: None or "cpu".
        dense_from: The model whose dense layers this one takes, where it lacks its own.
        allow_missing_dense: Take a model without the dense layers of its kind; its vectors are a space of their own.
        arch: The family that the model must be of, such as "embeddinggemma"; None takes what it is.
        window: Use this sliding window instead of the one in config.json, where that was damaged.
        tokenizer: Use this tokenizer.json instead of the checkpoint's; the vectors are then a space of their own.
        revision: Branch, tag or commit of a model of the hub; None is its default branch.
        hf_cache_path: Cache directory of the hub's library, in place of its own ($HF_HOME/hub).
        token_source: Where the hub's access token comes from: "cache" (also None: HF_TOKEN, or what `hf auth login` has
            kept), "none", "literal:TOKEN", "env:VARIABLE" or "path:FILE".

    Raises:
        UnknownModel, LoadError, InsufficientMemory: The model cannot be had; see `embergem.errors`.
        UnsupportedOption: An option that this engine, or this kind of model, does not have.
        ServerUnreachable, UnexpectedAnswer: There is no such server.
        ForkedProcess: This process was forked from one that had loaded a model.

    Example:
        >>> from embergem import Embedder
        >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
        ...     vectors = embedder.embed(["What is graphene?", "a carbon lattice"], task="clustering")
        >>> vectors.shape, vectors.dtype
        ((2, 96), dtype('float32'))
    """

    def __init__(self, model: str | Path | None = None, **options: Unpack[LoadKeywords]) -> None:
        super().__init__(open_backend(LoadOptions(model=model, **options)))

    @classmethod
    def _on(cls, backend: Backend) -> "Embedder":
        """Make an embedder on a backend that is open already."""
        embedder = cls.__new__(cls)
        Methods.__init__(embedder, backend)
        return embedder

    @overload
    def embed(self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[Options]) -> Vectors: ...
    @overload
    def embed(self, texts: Texts, *, output: Literal["list"], **options: Unpack[Options]) -> list[list[float]]: ...
    @overload
    def embed(self, texts: Texts, *, output: Literal["float16"], **options: Unpack[Options]) -> NDArray[np.float16]: ...
    @overload
    def embed(self, texts: Texts, *, output: Literal["int8"], **options: Unpack[Options]) -> NDArray[np.int8]: ...
    @overload
    def embed(self, texts: Texts, *, output: Literal["binary"], **options: Unpack[Options]) -> NDArray[np.uint8]: ...
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
        """Embed texts, or lists of token ids, as they are given; nothing is added unless `task` asks for it.

        Args:
            texts: Strings, or lists of token ids taken verbatim. One string counts as a list of one.
            task: Puts the model's prompt for this task around each text; see `tasks`.
            title: For documents: one title for all, or one a text.
            dimensions: Cut the vectors to this size and scale them to length 1 again; see `allowed_dimensions`.
            truncate: Cut inputs that are too long, with a `TruncationWarning`, instead of refusing them.
            output: "array"; "list" of lists of floats; "float16"; "int8", each row scaled so that its largest number
                becomes ±127; "binary", the signs packed eight to a byte, (n, dimensions / 8) uint8.
            progress: Whether to show a bar on stderr; None shows it on a terminal when there are many texts.

        Returns:
            float32 array (n, dimensions) in the order of `texts`, each row of length 1 for models that normalise; or
            the form that `output` names.

        Raises:
            InvalidRequest: The input cannot be embedded as it stands; the subclass and the message say why.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.embed(["graphene", "apples"], task="clustering", output="binary").shape
            (2, 12)
        """
        shape = shaper(output)
        return shape(self._vectors(self._request(texts, task, title, dimensions, truncate), progress))

    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[SideOptions]
    ) -> Vectors: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["list"], **options: Unpack[SideOptions]
    ) -> list[list[float]]: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["float16"], **options: Unpack[SideOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["int8"], **options: Unpack[SideOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_query(
        self, texts: Texts, *, output: Literal["binary"], **options: Unpack[SideOptions]
    ) -> NDArray[np.uint8]: ...
    def embed_query(self, texts: Texts, *, output: Output = "array", **options: Unpack[SideOptions]) -> Any:
        """Embed search queries, with the model's query prompt where it declares one.

        Arguments, result and errors are those of `embed`.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.embed_query("What is graphene?").shape
            (1, 96)
        """
        return self.embed(texts, task=self._side(Task.QUERY), output=output, **options)

    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["array"] = ..., **options: Unpack[SideOptions]
    ) -> Vectors: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["list"], **options: Unpack[SideOptions]
    ) -> list[list[float]]: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["float16"], **options: Unpack[SideOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["int8"], **options: Unpack[SideOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["binary"], **options: Unpack[SideOptions]
    ) -> NDArray[np.uint8]: ...
    def embed_documents(
        self, texts: Texts, titles: Title = None, *, output: Output = "array", **options: Unpack[SideOptions]
    ) -> Any:
        """Embed documents (code too) with the model's document prompt where it declares one.

        Arguments, result and errors are those of `embed`; `titles` is one for all, or one a text.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.embed_documents(["A carbon lattice."], ["Graphene"]).shape
            (1, 96)
        """
        task = self._side(Task.DOCUMENT)
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
        dimensions: int | None = None,
        truncate: bool = False,
        output: Output = "array",
        progress: bool | None = None,
    ) -> Iterator[Any]:
        """Embed texts as they come from an iterable of any length, and yield their vectors in order.

        Only a bounded number of texts and vectors is held at a time, and texts are tokenized while others are
        computed: an iterable is read a few pieces of 256 texts ahead. Leaving the loop early stops the work. The
        arguments are those of `embed`.

        Yields:
            One vector a text: (dimensions,) float32, or the form that `output` names.

        Raises:
            InvalidRequest: When an input is reached that cannot be embedded.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     sum(vector.shape == (96,) for vector in embedder.embed_stream(f"text {n}" for n in range(1000)))
            1000
        """
        return self._stream(task, dimensions, truncate, progress).run(texts, shaper(output))

    def rank(
        self,
        query: str,
        documents: Iterable[str],
        titles: Title = None,
        *,
        top: int | None = None,
        **options: Unpack[SideOptions],
    ) -> list[Ranked]:
        """Order documents by how near they are to a query, each side with its own prompt.

        Args:
            query: What is looked for.
            documents: Texts.
            titles: One title for all documents, or one each.
            top: Return only so many, the best; None is all.
            options: `dimensions`, `truncate`, `progress`, as in `embed`.

        Returns:
            `Ranked(index, score, text)` of each, best first.

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
        texts = texts_only(documents)
        scores = self.similarity(self.embed_query([query], **options), self.embed_documents(texts, titles, **options))
        return best(scores, texts, top)

    def count_tokens(self, texts: Texts, *, task: Task | str | None = None, title: Title = None) -> list[int]:
        """Count the tokens that the model would read of each input, without any limit.

        The prompt of `task` and the special tokens are counted, too: what is above `limit` needs `truncate`.

        Example:
            >>> from embergem import Embedder
            >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
            ...     embedder.count_tokens(["", "graphene"]), embedder.limit
            ([2, 8], 128)
        """
        return list(self._backend.lengths(self._request(texts, task, title)))

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
        landed = Landed(self.limit)
        with bar(len(request), progress) as advance, Flight(self._backend) as flight:
            flight.send_all(replace(request, blocking=True))
            for piece in flight:
                landed.add(piece.places, piece.answer())
                advance(piece.size)
        return landed.vectors()
