"""LlamaIndex: `EmbergemEmbedding` is a `BaseEmbedding`, which can be pickled and serialised."""

from pathlib import Path
from typing import Any

from embergem import catalog
from embergem.async_embedder import AsyncEmbedder
from embergem.embedder import Embedder
from embergem.errors import UnsupportedOption
from embergem.integrations import Model, missing_package
from embergem.keywords import require_known
from embergem.options import LoadKeywords

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
except ImportError as error:
    raise missing_package("llama-index-core", "llama-index") from error


class EmbergemEmbedding(BaseEmbedding):
    """LlamaIndex's `BaseEmbedding`: embeds queries and texts with the model's prompts for each.

    It can be pickled and converted to a dict, as an `IngestionPipeline` does for its workers or when it is saved. The
    copy loads the model again from `model` with the same options, without a token given as `literal:…`. An object made
    from an `Embedder` cannot be pickled.

    Args:
        model: As for `Embedder`, or an `Embedder`.
        dimensions: Cut vectors to this size; None is the full size.
        truncate: Cut texts above the token limit, with a `TruncationWarning`, instead of refusing them.
        options: Options for loading the model (`dtype`, `threads` and the other arguments of `Embedder`), and fields of
            `BaseEmbedding`, such as `embed_batch_size`. `model_name` is only the name that LlamaIndex shows.

    Raises:
        UnsupportedOption: There is a `model_name` but no `model`, or there are options beside an `Embedder`.
        UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded; see `embergem.errors`.

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
    _async_embedder: AsyncEmbedder = PrivateAttr()

    def __init__(
        self, model: Model = None, *, dimensions: int | None = None, truncate: bool = False, **options: Any
    ) -> None:
        require_known("EmbergemEmbedding", options, {*LoadKeywords.__annotations__, *type(self).model_fields})
        load = options.pop("load_options", {}) | {
            name: options.pop(name) for name in LoadKeywords.__annotations__ if name in options
        }
        if isinstance(model, Embedder):
            if load:
                raise UnsupportedOption(
                    f"{', '.join(load)}: this model is loaded already. Give its name instead, with these options."
                )
            source, embedder = None, model
        else:
            if model is None and "model_name" in options:
                raise UnsupportedOption(
                    f"model_name={options['model_name']!r} is only a label, and there is no argument model. "
                    "Give model=, a hub id, directory or address.",
                    param="model",
                )
            source = catalog.DEFAULT if model is None else str(model)
            embedder = Embedder(source, **load)
        fields = {"model_name": embedder.model, "embed_batch_size": 256} | options
        stored = {name: str(value) if isinstance(value, Path) else value for name, value in load.items()}
        # A literal token is not stored, so that it does not leak into files and pickles.
        if str(load.get("token_source")).startswith("literal:"):
            del stored["token_source"]
        super().__init__(model=source, load_options=stored, dimensions=dimensions, truncate=truncate, **fields)
        self._embedder = embedder
        self._async_embedder = AsyncEmbedder.sharing(embedder)

    def __getstate__(self) -> dict[str, Any]:
        if self.model is None:
            raise TypeError(
                f"This embedding was made from an open Embedder ({self.model_name}), so a copy could not load the "
                "model. Make it with a hub id, a directory or an address."
            )
        fields = type(self).model_fields.items()
        return {name: getattr(self, name) for name, field in fields if not field.exclude}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # that of the base class hides errors of loading

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this class."""
        return "EmbergemEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        [vector] = self._embedder.embed_query(query, dimensions=self.dimensions, truncate=self.truncate, output="list")
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        [vector] = await self._async_embedder.embed_query(
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
        return await self._async_embedder.embed_documents(
            texts, dimensions=self.dimensions, truncate=self.truncate, output="list"
        )
