"""LlamaIndex: `EmbergemEmbedding` is a `BaseEmbedding`."""

from typing import Any

from embergem.async_embedder import AsyncEmbedder
from embergem.embedder import Embedder
from embergem.integrations import Model, loaded, missing

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
except ImportError as error:
    raise missing("llama-index-core", "llama-index") from error


class EmbergemEmbedding(BaseEmbedding):
    """LlamaIndex's `BaseEmbedding` on embergem: queries and texts get the model's own prompts.

    Args:
        model: As for `Embedder`, or one that is loaded.
        dimensions: Cut vectors to this size; None is the model's own.
        truncate: Cut texts over the limit, with a `TruncationWarning`, instead of refusing them.
        options: Fields of `BaseEmbedding`, such as `embed_batch_size`.

    Example:
        >>> from embergem.integrations.llama_index import EmbergemEmbedding
        >>> embedding = EmbergemEmbedding("tests/data/goldens/gemma3_text")
        >>> len(embedding.get_query_embedding("What is graphene?")), len(embedding.get_text_embedding_batch(["a", "b"]))
        (96, 2)
    """

    dimensions: int | None = None
    truncate: bool = False
    _embedder: Embedder = PrivateAttr()
    _awaited: AsyncEmbedder = PrivateAttr()

    def __init__(
        self, model: Model = None, *, dimensions: int | None = None, truncate: bool = False, **options: Any
    ) -> None:
        embedder = loaded(model)
        named = {"model_name": embedder.model, "embed_batch_size": 256} | options
        super().__init__(dimensions=dimensions, truncate=truncate, **named)
        self._embedder = embedder
        self._awaited = AsyncEmbedder.sharing(embedder)

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex serialises it."""
        return "EmbergemEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        [vector] = self._embedder.embed_query(query, dimensions=self.dimensions, truncate=self.truncate, output="list")
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        [vector] = await self._awaited.embed_query(
            query, dimensions=self.dimensions, truncate=self.truncate, output="list"
        )
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.embed_documents(texts, dimensions=self.dimensions, truncate=self.truncate, output="list")

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._awaited.embed_documents(
            texts, dimensions=self.dimensions, truncate=self.truncate, output="list"
        )
