"""LlamaIndex: `EmbergemEmbedding` is a `BaseEmbedding`."""

from pathlib import Path
from typing import Any

from embergem import catalog
from embergem.async_embedder import AsyncEmbedder
from embergem.embedder import Embedder
from embergem.errors import UnsupportedOption
from embergem.integrations import Model, missing
from embergem.options import LoadKeywords

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
except ImportError as error:
    raise missing("llama-index-core", "llama-index") from error


class EmbergemEmbedding(BaseEmbedding):
    """LlamaIndex's `BaseEmbedding` on embergem: queries and texts get the model's own prompts.

    It can be pickled and written to a dict, as an `IngestionPipeline` with workers or a saved one does: the model is
    then loaded again, from `model` and with the same options (but for a token given as `literal:…`). One that was given
    a loaded `Embedder` cannot.

    Args:
        model: As for `Embedder`, or one that is loaded.
        dimensions: Cut vectors to this size; None is the model's own.
        truncate: Cut texts over the limit, with a `TruncationWarning`, instead of refusing them.
        options: How the model is to be loaded (`dtype`, `threads` and the other arguments of `Embedder`), and the
            fields of `BaseEmbedding`, such as `embed_batch_size`. `model_name` is what LlamaIndex shows; it chooses
            nothing.

    Raises:
        UnsupportedOption: A `model_name` without a model, or options for a model that is loaded.
        UnknownModel, LoadError, InsufficientMemory: The model cannot be had; see `embergem.errors`.

    Example:
        >>> from embergem.integrations.llama_index import EmbergemEmbedding
        >>> embedding = EmbergemEmbedding("tests/data/goldens/gemma3_text")
        >>> len(embedding.get_query_embedding("What is graphene?")), len(embedding.get_text_embedding_batch(["a", "b"]))
        (96, 2)
    """

    model: str | None = None
    load_options: dict[str, Any] = Field(default_factory=dict)
    dimensions: int | None = None
    truncate: bool = False
    _embedder: Embedder = PrivateAttr()
    _awaited: AsyncEmbedder = PrivateAttr()

    def __init__(
        self, model: Model = None, *, dimensions: int | None = None, truncate: bool = False, **options: Any
    ) -> None:
        load = options.pop("load_options", {}) | {
            name: options.pop(name) for name in LoadKeywords.__annotations__ if name in options
        }
        if isinstance(model, Embedder):
            if load:
                raise UnsupportedOption(f"{', '.join(load)}: the model is loaded already; give its name to choose them")
            source, embedder = None, model
        else:
            if model is None and "model_name" in options:
                raise UnsupportedOption(
                    f"model_name={options['model_name']!r} chooses no model, and there is no other argument that does: "
                    "give model=, a hub id, directory or address",
                    param="model",
                )
            source = catalog.DEFAULT if model is None else str(model)
            embedder = Embedder(source, **load)
        named = {"model_name": embedder.model, "embed_batch_size": 256} | options
        written = {name: str(value) if isinstance(value, Path) else value for name, value in load.items()}
        # A token that was given itself is not written anywhere: where this is loaded again, it is given again.
        if str(load.get("token_source")).startswith("literal:"):
            del written["token_source"]
        super().__init__(model=source, load_options=written, dimensions=dimensions, truncate=truncate, **named)
        self._embedder = embedder
        self._awaited = AsyncEmbedder.sharing(embedder)

    def __getstate__(self) -> dict[str, Any]:
        if self.model is None:
            raise TypeError(
                f"this embedding was given {self.model_name} loaded, so it cannot be loaded again elsewhere; make it "
                "with a hub id, a directory or an address, and it can be pickled"
            )
        fields = type(self).model_fields.items()
        return {name: getattr(self, name) for name, field in fields if not field.exclude}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # LlamaIndex's own goes on without a model that cannot be loaded

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
