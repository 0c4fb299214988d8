"""Chroma: `EmbergemEmbeddingFunction` is an embedding function that collections store in their configuration."""

from typing import Any

from embergem.integrations import Model, missing_package, to_embedder
from embergem.keywords import checked_class

try:
    from chromadb import Documents, EmbeddingFunction, Embeddings
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise missing_package("chromadb", "chroma") from error

_FORMER_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


@register_embedding_function
@checked_class
class EmbergemEmbeddingFunction(EmbeddingFunction[Documents]):
    """Embedding function that embeds documents and queries with the model's prompts for each.

    A collection stores the name of the model, also that of the default model, and loads it when it is opened. That
    needs a name, a directory or an address; an `Embedder` is stored by its model's name only.

    Args:
        model: As for `Embedder`, or an `Embedder`.
        dimensions: Cut vectors to this size; None is the full size.
        truncate: Cut texts above the token limit, with a `TruncationWarning`, instead of refusing them.

    Example:
        >>> from embergem.integrations.chroma import EmbergemEmbeddingFunction
        >>> embed = EmbergemEmbeddingFunction("tests/data/goldens/gemma3_text")
        >>> len(embed(["a", "b"])), embed.embed_query(["What is graphene?"])[0].shape
        (2, (96,))
    """

    def __init__(self, model: Model = None, *, dimensions: int | None = None, truncate: bool = False) -> None:
        self.embedder = to_embedder(model)
        # The name of the default model is stored too: vectors in a collection must stay comparable when the default
        # changes.
        self.model = self.embedder.model if model is None or model is self.embedder else model
        self.dimensions = dimensions
        self.truncate = truncate

    def __call__(self, input: Documents) -> Embeddings:  # noqa: A002 - Chroma's name
        """Embed documents to store."""
        return list(self.embedder.embed_documents(input, dimensions=self.dimensions, truncate=self.truncate))

    def embed_query(self, input: Documents) -> Embeddings:  # noqa: A002 - Chroma's name
        """Embed queries."""
        return list(self.embedder.embed_query(input, dimensions=self.dimensions, truncate=self.truncate))

    @staticmethod
    def name() -> str:
        """Return the name under which Chroma registers this class."""
        return "embergem"

    def default_space(self) -> Any:
        """Return the distance for new collections."""
        return "cosine"

    def supported_spaces(self) -> Any:
        """Return the supported distances."""
        return ["cosine", "l2", "ip"]

    def get_config(self) -> dict[str, Any]:
        """Return the configuration that a collection stores."""
        return {"model": str(self.model), "dimensions": self.dimensions, "truncate": self.truncate}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "EmbergemEmbeddingFunction":
        """Make the function of a stored configuration."""
        return EmbergemEmbeddingFunction(**config | {"model": _model_of(config)})

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuse a change that would mix vectors of two models or sizes in a collection."""
        for key, old, new in (
            ("model", _model_of(old_config), _model_of(new_config)),
            ("dimensions", old_config.get("dimensions"), new_config.get("dimensions")),
        ):
            if old != new:
                raise ValueError(
                    f"The collection has vectors of {key}={old!r}, which cannot be compared with those of {new!r}. Use "
                    "another collection, or embed its documents again."
                )


def _model_of(config: dict[str, Any]) -> str:
    """Return the model of a configuration. Early versions stored no name for the default."""
    return config.get("model") or _FORMER_DEFAULT
