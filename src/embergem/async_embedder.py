"""`AsyncEmbedder`: the Python API for asyncio, with the methods of `Embedder`."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from embergem.embedder import Embedder
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
from embergem.sdk.chunk_queue import PendingChunks
from embergem.sdk.inputs import Texts, Title, stand_in
from embergem.sdk.outputs import Output, converter
from embergem.sdk.results import ResultCollector
from embergem.tasks import Task
from embergem.types import Vectors

T = TypeVar("T")

INLINE_SIZE = 2000
"""Most characters (or token ids) that are tokenized on the event loop: a hand-over to a thread would take longer."""


@checked_class
class AsyncEmbedder(EmbedderBase):
    """`Embedder` for asyncio: the same methods and results, without blocking the event loop.

    Texts are tokenized on a thread and computed on the engine's threads. One object serves any number of tasks, whose
    texts share batches. Cancelling a task stops its work.

    The constructor loads the model on the calling thread; use it before the event loop runs. In a coroutine, use `await
    AsyncEmbedder.load(...)`. `AsyncEmbedder.sharing(embedder)` uses the model that an `Embedder` has loaded.

    Args:
        model: As for `Embedder`.
        options: As for `Embedder`: `dtype`, `threads` and the others.

    Raises:
        UnknownModel, LoadError, InsufficientMemory, ServerUnreachable, UnexpectedAnswer: As `Embedder`.

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

    def __init__(self, model: str | Path | Backend | None = None, **options: Unpack[LoadKeywords]) -> None:
        super().__init__(to_backend(model, **options), model, options)

    @classmethod
    async def load(cls, model: str | Path | Backend | None = None, **options: Unpack[LoadKeywords]) -> "AsyncEmbedder":
        """Load a model without blocking the event loop; see the class."""
        backend = await run_in_thread(lambda: to_backend(model, **options), undo=lambda backend: backend.close())
        embedder = AsyncEmbedder(backend)
        embedder._model, embedder._options = model, options
        return embedder

    @classmethod
    def sharing(cls, embedder: Embedder) -> "AsyncEmbedder":
        """Return an embedder on the model of `embedder`; closing either closes both."""
        return AsyncEmbedder(embedder._backend)

    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[EmbedOptions]
    ) -> Vectors: ...
    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["list"], **options: Unpack[EmbedOptions]
    ) -> list[list[float]]: ...
    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["float16"], **options: Unpack[EmbedOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["int8"], **options: Unpack[EmbedOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    async def embed(
        self, texts: Texts, *, output: Literal["binary"], **options: Unpack[EmbedOptions]
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
        """Embed texts or lists of token ids; see `Embedder.embed`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.embed(["a", "b"], task="clustering")).shape
            (2, 96)
        """
        convert = converter(output)
        asked = self._request(texts, task, title, dimensions, truncate)
        request = asked or stand_in(asked)
        collector = ResultCollector(self.limit)
        with embedding_progress(len(request), progress) as advance, PendingChunks(self._backend) as pending:
            if request.size <= INLINE_SIZE:
                pending.submit_all(request)
            else:
                await run_in_thread(partial(pending.submit_all, request))
            for chunk in pending:
                collector.add(chunk.places, await chunk.result_async())
                advance(chunk.size)
        return convert(collector.vectors()[: len(asked)])

    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["array"] = ..., **options: Unpack[PromptedOptions]
    ) -> Vectors: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["list"], **options: Unpack[PromptedOptions]
    ) -> list[list[float]]: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["float16"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["int8"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    async def embed_query(
        self, texts: Texts, *, output: Literal["binary"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.uint8]: ...
    async def embed_query(self, texts: Texts, *, output: Output = "array", **options: Unpack[PromptedOptions]) -> Any:
        """Embed search queries with the model's query prompt; see `Embedder.embed_query`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.embed_query("What is graphene?", output="int8")).dtype
            dtype('int8')
        """
        task = self._task_or_none(Task.QUERY)
        return await self.embed(texts, task=task, output=output, **options)

    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["array"] = ..., **options: Unpack[PromptedOptions]
    ) -> Vectors: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["list"], **options: Unpack[PromptedOptions]
    ) -> list[list[float]]: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["float16"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.float16]: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["int8"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.int8]: ...
    @overload
    async def embed_documents(
        self, texts: Texts, titles: Title = ..., *, output: Literal["binary"], **options: Unpack[PromptedOptions]
    ) -> NDArray[np.uint8]: ...
    async def embed_documents(
        self, texts: Texts, titles: Title = None, *, output: Output = "array", **options: Unpack[PromptedOptions]
    ) -> Any:
        """Embed documents with the model's document prompt; see `Embedder.embed_documents`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.embed_documents(["A carbon lattice."], ["Graphene"])).shape
            (1, 96)
        """
        task = self._task_or_none(Task.DOCUMENT)
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
        title: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        output: Output = "array",
        progress: bool | None = None,
    ) -> AsyncIterator[Any]:
        """Embed texts from an iterable or asynchronous iterable of any length; see `Embedder.embed_stream`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> async def count():
            ...     return sum([1 async for vector in embedder.embed_stream(f"text {n}" for n in range(500))])
            >>> asyncio.run(count())
            500
        """
        return self._stream(task, title, dimensions, truncate, progress).run_async(texts, converter(output))

    async def rank(
        self,
        query: str,
        documents: Iterable[str],
        titles: Title = None,
        *,
        top: int | None = None,
        **options: Unpack[PromptedOptions],
    ) -> list[Ranked]:
        """Sort documents by their cosine to a query; see `Embedder.rank`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> len(asyncio.run(embedder.rank("graphene", ["apples", "carbon lattices"])))
            2
        """
        texts = text_list(documents)
        one, many = await asyncio.gather(
            self.embed_query([query], **options), self.embed_documents(texts, titles, **options)
        )
        return rank_documents(self.similarity(one, many), texts, top)

    async def count_tokens(self, texts: Texts, *, task: Task | str | None = None, title: Title = None) -> list[int]:
        """Count the tokens of each input before truncation; see `Embedder.count_tokens`.

        Example:
            >>> import asyncio
            >>> from embergem import AsyncEmbedder
            >>> embedder = AsyncEmbedder("tests/data/goldens/gemma3_text")
            >>> asyncio.run(embedder.count_tokens(["", "graphene"]))
            [2, 8]
        """
        request = self._request(texts, task, title)
        return list(await run_in_thread(partial(self._backend.lengths, request))) if request else []

    async def close(self) -> None:
        """Free the model. Later calls raise `EngineClosed`."""
        await run_in_thread(self._backend.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def run_in_thread(call: Callable[[], T], *, undo: Callable[[T], object] | None = None) -> T:
    """Await `call()` on a thread. If the awaiting task is cancelled meanwhile, `undo` gets the result of the call."""
    work = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if undo is not None:
            work.add_done_callback(lambda done: None if done.cancelled() or done.exception() else undo(done.result()))
        raise
