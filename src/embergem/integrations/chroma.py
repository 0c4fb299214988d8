"""Chroma: `EmbergemEmbeddingFunction` is an embedding function of collections, remembered by them."""

from typing import Any

from embergem.integrations import Model, loaded, missing

try:
    from chromadb import Documents, EmbeddingFunction, Embeddings
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise missing("chromadb", "chroma") from error

_ONCE_DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


@register_embedding_function
class EmbergemEmbeddingFunction(EmbeddingFunction[Documents]):
    """Chroma's embedding function on embergem: what is stored gets the document prompt, what is asked the query's.

    A collection remembers the model's name, also that of the default model, and finds it again when it is opened; give
    it a name, a directory or an address for that, not a loaded `Embedder`.

    Args:
        model: As for `Embedder`, or one that is loaded.
        dimensions: Cut vectors to this size; None is the model's own.
        truncate: Cut texts over the limit, with a `TruncationWarning`, instead of refusing them.

    Example:
        >>> from embergem.integrations.chroma import EmbergemEmbeddingFunction
        >>> embed = EmbergemEmbeddingFunction("tests/data/goldens/gemma3_text")
        >>> len(embed(["a", "b"])), embed.embed_query(["What is graphene?"])[0].shape
        (2, (96,))
    """

    def __init__(self, model: Model = None, *, dimensions: int | None = None, truncate: bool = False) -> None:
        self.embedder = loaded(model)
        # By its name where None was given, too: what a collection holds must stay comparable when the default changes.
        self.model = self.embedder.model if model is None or model is self.embedder else model
        self.dimensions = dimensions
        self.truncate = truncate

    def __call__(self, input: Documents) -> Embeddings:  # noqa: A002 - Chroma's name
        """Embed what is stored."""
        return list(self.embedder.embed_documents(input, dimensions=self.dimensions, truncate=self.truncate))

    def embed_query(self, input: Documents) -> Embeddings:  # noqa: A002 - Chroma's name
        """Embed what is asked."""
        return list(self.embedder.embed_query(input, dimensions=self.dimensions, truncate=self.truncate))

    @staticmethod
    def name() -> str:
        """Name under which Chroma knows this class."""
        return "embergem"

    def default_space(self) -> Any:
        """Distance for new collections."""
        return "cosine"

    def supported_spaces(self) -> Any:
        """Distances that fit."""
        return ["cosine", "l2", "ip"]

    def get_config(self) -> dict[str, Any]:
        """Return what a collection stores to find the model again."""
        return {"model": str(self.model), "dimensions": self.dimensions, "truncate": self.truncate}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> "EmbergemEmbeddingFunction":
        """Make one from what a collection stored."""
        return EmbergemEmbeddingFunction(**config | {"model": _named(config)})

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuse to mix vectors of two models or sizes in a collection."""
        for key, old, new in (
            ("model", _named(old_config), _named(new_config)),
            ("dimensions", old_config.get("dimensions"), new_config.get("dimensions")),
        ):
            if old != new:
                raise ValueError(
                    f"the collection was made with {key}={old!r}, not {new!r}; vectors of both cannot be compared"
                )


def _named(config: dict[str, Any]) -> str:
    """The model of a configuration; one without a name is of a version that stored none for what was the default."""
    return config.get("model") or _ONCE_DEFAULT
