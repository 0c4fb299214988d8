"""LanceDB: importing this module registers "embergem" as an embedding function for tables."""

from typing import Any

import numpy as np

from embergem import catalog
from embergem.integrations import missing_package, shared_embedder
from embergem.keywords import require_known

try:
    from lancedb.embeddings import TextEmbeddingFunction, register
except ImportError as error:
    raise missing_package("lancedb", "lancedb") from error


@register("embergem")
class EmbergemFunction(TextEmbeddingFunction):
    """Embedding function that embeds source columns and searches with the model's prompts for each.

    A table stores the name of the model, also that of the default model, and loads it when it is opened.

    Fields:
        model: Hub id, alias, directory or server address; None is the default model.
        dimensions: Cut vectors to this size; None is the full size.
        truncate: Cut texts above the token limit, with a `TruncationWarning`, instead of refusing them.

    Example:
        >>> import embergem.integrations.lancedb
        >>> from lancedb.embeddings import get_registry
        >>> function = get_registry().get("embergem").create(model="tests/data/goldens/gemma3_text")
        >>> function.ndims()
        96
    """

    model: str | None = None
    dimensions: int | None = None
    truncate: bool = False

    def __init__(self, **fields: Any) -> None:
        require_known("EmbergemFunction", fields, type(self).model_fields.keys())  # pydantic would ignore the name
        super().__init__(**fields)

    def safe_model_dump(self) -> dict[str, Any]:
        """Return the configuration that a table stores. It always names the model, because the default may change."""
        given: dict[str, Any] = super().safe_model_dump()
        return {**given, "model": given.get("model") or catalog.DEFAULT}

    def ndims(self) -> int:
        """Return the size of the vectors."""
        return self.dimensions or shared_embedder(self.model).dimensions

    def generate_embeddings(self, texts: Any, *args: Any, **kwargs: Any) -> list[np.ndarray[Any, Any]]:
        """Embed texts of a source column."""
        embedder = shared_embedder(self.model)
        return list(embedder.embed_documents(list(texts), dimensions=self.dimensions, truncate=self.truncate))

    def compute_query_embeddings(self, query: str, *args: Any, **kwargs: Any) -> list[np.ndarray[Any, Any]]:
        """Embed the query of a search."""
        embedder = shared_embedder(self.model)
        return list(embedder.embed_query(query, dimensions=self.dimensions, truncate=self.truncate))
