"""The everyday API for asyncio: the methods of `Embedder`, awaited."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from embergem.embedder import Embedder
from embergem.options import LoadKeywords, LoadOptions
from embergem.sdk.backend import Backend, open_backend
from embergem.sdk.flight import Flight, Landed
from embergem.sdk.inputs import Texts
from embergem.sdk.methods import Methods, Options, Ranked, SideOptions, StreamOptions, Title, best, texts_only
from embergem.sdk.off_loop import off_loop
from embergem.sdk.outputs import Output, shaper
from embergem.sdk.progress import bar
from embergem.tasks import Task
from embergem.types import Vectors

AT_ONCE = 2000
"""Characters (or token ids) that are tokenized where they are: it takes less than handing them to a thread."""


class AsyncEmbedder(Methods):
    """`Embedder` for asyncio: the same methods and results; nothing holds the event loop.

    Tokenizing happens on a thread and computing on the engine's, so that one object serves any number of tasks, whose
    texts are packed into common batches. Cancelling a task stops its work.

    The constructor loads the model where it stands, for use before the loop runs; inside of it, `await
    AsyncEmbedder.load(...)`. `AsyncEmbedder.sharing(embedder)` uses the model of an `Embedder`.

    Args:
        model: As for `Embedder`: hub id, alias, directory or address.
        options: As for `Embedder`: `dtype`, `threads` and the rest.

    Raises:
        UnknownModel, LoadError, InsufficientMemory, ServerUnreachable, UnexpectedAnswer, ForkedProcess: As `Embedder`.

    Example:
        >>> import asyncio
        >>> from embergem import AsyncEmbedder
        >>> async def main():
        ...     async with await AsyncEmbedder.load("tests/data/goldens/gemma3_text") as embedder:
        ...         one, two = await asyncio.gather(embedder.embed_query("a"), embedder.embed_documents(["b", "c"]))
        ...         return one.shape, two.shape
        >>> asyncio.run(main())
        ((1, 96), (2, 96))
    """

    def __init__(self, model: str | Path | None = None, **options: Unpack[LoadKeywords]) -> None:
        super().__init__(open_backend(LoadOptions(model=model, **options)))

    @classmethod
    async def load(cls, model: str | Path | None = None, **options: Unpack[LoadKeywords]) -> "AsyncEmbedder":
        """Load a model without holding the event loop; see the class."""
        opened = await off_loop(
            partial(open_backend, LoadOptions(model=model, **options)), undo=lambda backend: backend.close()
        )
        return AsyncEmbedder._on(opened)

    @classmethod
    def sharing(cls, embedder: Embedder) -> "AsyncEmbedder":
        """Return one on the model of `embedder`; closing either closes both."""
        return AsyncEmbedder._on(embedder._backend)

    @classmethod
    def _on(cls, backend: Backend) -> "AsyncEmbedder":
        """Make an embedder on a backend that is open already."""
        embedder = cls.__new__(cls)
        Methods.__init__(embedder, backend)
        return embedder

    @overload
    async def embed(self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[Options]) -> Vectors: ...
    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["list"], **options: Unpack[Options]
    ) -> list[list[float]]: ...
    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["float16"], **options: Unpack[Options]
    ) -> NDArray[np.float16]: ...
    @overload
    async def embed(self, texts: Texts, *, output: Literal["int8"], **options: Unpack[Options]) -> NDArray[np.int8]: ...
    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["binary"], **options: Unpack[Options]
    ) -> NDArray[np.uint8]: ...
    async def embed(
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
        """Embed texts, or lists of token ids; see `Embedder.embed`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.embed(["a", "b"], task="clustering")).shape
            (2, 96)
        """
        shape = shaper(output)
        request = self._request(texts, task, title, dimensions, truncate)
        landed = Landed(self.limit)
        with bar(len(request), progress) as advance, Flight(self._backend) as flight:
            if request.size <= AT_ONCE:
                flight.send_all(request)
            else:
                await off_loop(partial(flight.send_all, request))
            for piece in flight:
                landed.add(piece.places, await piece.answer_async())
                advance(piece.size)
        return shape(landed.vectors())

    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[SideOptions]
    ) -> Vectors: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["list"], **options: Unpack[SideOptions]
    ) -> list[list[float]]: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["float16"], **options: Unpack[SideOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["int8"], **options: Unpack[SideOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["binary"], **options: Unpack[SideOptions]
    ) -> NDArray[np.uint8]: ...
    async def embed_query(self, texts: Texts, *, output: Output = "array", **options: Unpack[SideOptions]) -> Any:
        """Embed search queries with the model's query prompt; see `Embedder.embed_query`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.embed_query("What is graphene?", output="int8")).dtype
            dtype('int8')
        """
        task = self._side(Task.QUERY)
        return await self.embed(texts, task=task, output=output, **options)

    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["array"] = ..., **options: Unpack[SideOptions]
    ) -> Vectors: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["list"], **options: Unpack[SideOptions]
    ) -> list[list[float]]: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["float16"], **options: Unpack[SideOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["int8"], **options: Unpack[SideOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["binary"], **options: Unpack[SideOptions]
    ) -> NDArray[np.uint8]: ...
    async def embed_documents(
        self, texts: Texts, titles: Title = None, *, output: Output = "array", **options: Unpack[SideOptions]
    ) -> Any:
        """Embed documents with the model's document prompt; see `Embedder.embed_documents`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.embed_documents(["A carbon lattice."], ["Graphene"])).shape
            (1, 96)
        """
        task = self._side(Task.DOCUMENT)
        embed = self.embed(texts, task=task, title=titles, output=output, **options)
        return await embed

    @overload
    def embed_stream(
        self,
        texts: Texts | AsyncIterable[Any],
        *,
        output: Literal["array"] = ...,
        **options: Unpack[StreamOptions],
    ) -> AsyncIterator[Vectors]: ...
    @overload
    def embed_stream(
        self, texts: Texts | AsyncIterable[Any], *, output: Literal["list"], **options: Unpack[StreamOptions]
    ) -> AsyncIterator[list[float]]: ...
    @overload
    def embed_stream(
        self,
        texts: Texts | AsyncIterable[Any],
        *,
        output: Literal["float16", "int8", "binary"],
        **options: Unpack[StreamOptions],
    ) -> AsyncIterator[NDArray[Any]]: ...
    def embed_stream(
        self,
        texts: Texts | AsyncIterable[Any],
        *,
        task: Task | str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        output: Output = "array",
        progress: bool | None = None,
    ) -> AsyncIterator[Any]:
        """Embed texts as they come, from an iterable or an asynchronous one; see `Embedder.embed_stream`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> async def count():
            ...     return sum([1 async for vector in embedder.embed_stream(f"text {n}" for n in range(500))])
            >>> asyncio.run(count())
            500
        """
        return self._stream(task, dimensions, truncate, progress).run_async(texts, shaper(output))

    async def rank(
        self,
        query: str,
        documents: Iterable[str],
        titles: Title = None,
        *,
        top: int | None = None,
        **options: Unpack[SideOptions],
    ) -> list[Ranked]:
        """Order documents by how near they are to a query; see `Embedder.rank`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> len(asyncio.run(embedder.rank("graphene", ["apples", "carbon lattices"])))
            2
        """
        texts = texts_only(documents)
        one, many = await asyncio.gather(
            self.embed_query([query], **options), self.embed_documents(texts, titles, **options)
        )
        return best(self.similarity(one, many), texts, top)

    async def count_tokens(self, texts: Texts, *, task: Task | str | None = None, title: Title = None) -> list[int]:
        """Count the tokens that the model would read of each input; see `Embedder.count_tokens`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.count_tokens(["", "graphene"]))
            [2, 8]
        """
        return list(await off_loop(partial(self._backend.lengths, self._request(texts, task, title))))

    async def close(self) -> None:
        """Free the model. Later calls raise `EngineClosed`."""
        await off_loop(self._backend.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
