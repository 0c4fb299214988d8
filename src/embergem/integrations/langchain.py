"""LangChain: `EmbergemEmbeddings` is an `Embeddings` for vector stores and retrievers.

Separate because each library has a module and an extra of its own.
"""

from embergem.async_embedder import AsyncEmbedder
from embergem.integrations import Model, missing_package, to_embedder
from embergem.keywords import checked_class

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise missing_package("langchain-core", "langchain") from error


@checked_class
class EmbergemEmbeddings(Embeddings):
    """LangChain's `Embeddings`: embeds queries and documents with the model's prompts for each.

    Args:
        model: As for `Embedder`, or an `Embedder`.
        dimensions: Cut vectors to this size; None is the full size.
        truncate: Cut texts above the token limit, with a `TruncationWarning`, instead of refusing them.

    Example:
        >>> from embergem.integrations.langchain import EmbergemEmbeddings
        >>> embeddings = EmbergemEmbeddings("tests/data/goldens/gemma3_text")
        >>> len(embeddings.embed_query("What is graphene?")), len(embeddings.embed_documents(["a", "b"]))
        (96, 2)
    """

    def __init__(self, model: Model = None, *, dimensions: int | None = None, truncate: bool = False) -> None:
        self.embedder = to_embedder(model)
        self.dimensions = dimensions
        self.truncate = truncate
        self._async_embedder = AsyncEmbedder.sharing(self.embedder)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents."""
        if not texts:
            return []
        return self.embedder.embed_documents(texts, dimensions=self.dimensions, truncate=self.truncate, output="list")

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        [vector] = self.embedder.embed_query(text, dimensions=self.dimensions, truncate=self.truncate, output="list")
        return vector

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents without blocking the event loop."""
        if not texts:
            return []
        return await self._async_embedder.embed_documents(
            texts, dimensions=self.dimensions, truncate=self.truncate, output="list"
        )

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query without blocking the event loop."""
        [vector] = await self._async_embedder.embed_query(
            text, dimensions=self.dimensions, truncate=self.truncate, output="list"
        )
        return vector
