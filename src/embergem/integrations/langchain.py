"""LangChain: `EmbergemEmbeddings` is an `Embeddings` for vector stores and retrievers."""

from embergem.async_embedder import AsyncEmbedder
from embergem.integrations import Model, loaded, missing

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise missing("langchain-core", "langchain") from error


class EmbergemEmbeddings(Embeddings):
    """LangChain's `Embeddings` on embergem: queries and documents get the model's own prompts.

    Args:
        model: As for `Embedder`, or one that is loaded.
        dimensions: Cut vectors to this size; None is the model's own.
        truncate: Cut texts over the limit, with a `TruncationWarning`, instead of refusing them.

    Example:
        >>> from embergem.integrations.langchain import EmbergemEmbeddings
        >>> embeddings = EmbergemEmbeddings("tests/data/goldens/gemma3_text")
        >>> len(embeddings.embed_query("What is graphene?")), len(embeddings.embed_documents(["a", "b"]))
        (96, 2)
    """

    def __init__(self, model: Model = None, *, dimensions: int | None = None, truncate: bool = False) -> None:
        self.embedder = loaded(model)
        self.dimensions = dimensions
        self.truncate = truncate
        self._awaited = AsyncEmbedder.sharing(self.embedder)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts that will be searched."""
        if not texts:
            return []
        return self.embedder.embed_documents(texts, dimensions=self.dimensions, truncate=self.truncate, output="list")

    def embed_query(self, text: str) -> list[float]:
        """Embed what is looked for."""
        [vector] = self.embedder.embed_query(text, dimensions=self.dimensions, truncate=self.truncate, output="list")
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts that will be searched, without holding the event loop."""
        if not texts:
            return []
        return await self._awaited.embed_documents(
            texts, dimensions=self.dimensions, truncate=self.truncate, output="list"
        )

    async def aembed_query(self, text: str) -> list[float]:
        """Embed what is looked for, without holding the event loop."""
        [vector] = await self._awaited.embed_query(
            text, dimensions=self.dimensions, truncate=self.truncate, output="list"
        )
        return vector
