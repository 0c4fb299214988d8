"""The public names of embergem, and every function, constructor and method that they stand for."""

import asyncio
import enum
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator

import pytest

from embergem.errors import EmbergemError, UnknownOption
from embergem.keywords import known_keywords

PUBLIC = {
    "embergem": [
        "AsyncClient",
        "AsyncEmbedder",
        "Client",
        "Embedder",
        "EmbeddingArchitecture",
        "EmbeddingModel",
        "EmbeddingModelBuilder",
        "EmbeddingRequest",
        "EmbergemError",
        "ModelDType",
        "MultiModelBuilder",
        "Ranked",
        "Runner",
        "Task",
        "TruncationWarning",
        "Which",
        "__version__",
        "errors",
    ],
    "embergem.errors": [
        "Cancelled",
        "CorruptCheckpoint",
        "DeadlineExceeded",
        "DownloadError",
        "EmbergemError",
        "EmptyInput",
        "EngineClosed",
        "ForkedProcess",
        "GatedModel",
        "IgnoredOptionWarning",
        "InputTooLong",
        "InsufficientMemory",
        "InvalidConfig",
        "InvalidDimensions",
        "InvalidRequest",
        "InvalidTask",
        "InvalidText",
        "InvalidType",
        "JobError",
        "LoadError",
        "MissingTensor",
        "ModelFailed",
        "ModelLoading",
        "NonFiniteOutput",
        "NotReady",
        "Overloaded",
        "ServerUnreachable",
        "TokenOutOfRange",
        "TruncationWarning",
        "TryLater",
        "UnexpectedAnswer",
        "UnknownModel",
        "UnknownOption",
        "UnsupportedModel",
        "UnsupportedOption",
    ],
    "embergem.bulk": ["embed_table"],
    "embergem.client": ["AsyncClient", "Client"],
    "embergem.sentence_transformers": ["SentenceTransformer", "SimilarityFunction", "quantize_embeddings", "util"],
    "embergem.sentence_transformers.util": [
        "SimilarityFunction",
        "community_detection",
        "cos_sim",
        "dot_score",
        "euclidean_sim",
        "manhattan_sim",
        "normalize_embeddings",
        "pairwise_cos_sim",
        "pairwise_dot_score",
        "pairwise_euclidean_sim",
        "pairwise_manhattan_sim",
        "paraphrase_mining",
        "paraphrase_mining_embeddings",
        "pytorch_cos_sim",
        "quantize_embeddings",
        "semantic_search",
        "truncate_embeddings",
    ],
    "embergem.evaluate": ["Bootstrap", "Pairs", "Report", "Retrieval", "draw", "evaluate", "read_labelled"],
    "embergem.ray": ["Embed"],
    "embergem.server.app": ["create_app"],
    "embergem.integrations.arrow": ["embed_column", "to_arrow"],
    "embergem.integrations.chroma": ["EmbergemEmbeddingFunction"],
    "embergem.integrations.lancedb": ["EmbergemFunction"],
    "embergem.integrations.langchain": ["EmbergemEmbeddings"],
    "embergem.integrations.llama_index": ["EmbergemEmbedding"],
    "embergem.integrations.mteb": ["EmbergemEncoder"],
    "embergem.integrations.sklearn": ["EmbergemVectorizer"],
}
"""Import paths that programs of users have. They stay when a module moves."""

MADE_BY_EMBERGEM = (EmbergemError, Warning, enum.Enum)
"""Classes that programs do not call: exceptions, warnings and enumerations."""

NOT_CHECKED = {
    "EmbergemEncoder.encode": "MTEB calls it, with arguments of its own",
    "EmbergemFunction.__init__": "LanceDB calls it: `create` makes the objects, and has a test of its own",
    "EmbergemFunction.compute_query_embeddings": "LanceDB calls it, with arguments of its own",
    "EmbergemFunction.generate_embeddings": "LanceDB calls it, with arguments of its own",
    "SentenceTransformer.encode_document": "`encode` checks the options, which has a test of its own",
    "SentenceTransformer.encode_query": "`encode` checks the options, which has a test of its own",
}
"""Methods with `**options` that `require_suggestions` does not try, each with the reason."""


def callables(modules: Iterable[str]) -> Iterator[tuple[str, Callable[..., object], list[str]]]:
    """Yield (name, callable, names of its options) for the public functions, constructors and methods of modules."""
    for module in modules:
        for thing in (getattr(importlib.import_module(module), name) for name in PUBLIC[module]):
            if inspect.isclass(thing) and not issubclass(thing, MADE_BY_EMBERGEM) and thing.__name__ != "Ranked":
                yield from members(thing)
            elif inspect.isfunction(thing):
                yield thing.__name__, thing, options_of(thing)


def members(cls: type) -> Iterator[tuple[str, Callable[..., object], list[str]]]:
    """Yield the constructor and the public methods of a class that embergem defines."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        shown = f"{cls.__qualname__}.{name}"
        if inspect.isclass(member) and not name.startswith("_"):
            yield from members(member)
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if (name.startswith("_") and name != "__init__") or not inspect.isfunction(function):
            continue
        if not function.__module__.startswith("embergem") or shown in NOT_CHECKED:
            continue
        # A constructor with `**options` checks them itself. Every other callable does so before it binds them.
        checks_itself = name == "__init__" and known_keywords(function) is None
        if options := options_of(function):
            yield shown, cls if checks_itself else function, options


def options_of(function: Callable[..., object]) -> list[str]:
    """Return the names of the options of a function, without those of `**options`."""
    parameters = inspect.signature(function).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD}
    return sorted((known_keywords(function) or named) - {"self", "cls"})


def call(function: Callable[..., object], *arguments: object, **given: object) -> object:
    """Call a function; await its result if that is a coroutine."""
    result = function(*arguments, **given)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def require_suggestions(function: Callable[..., object], options: list[str]) -> None:
    """Misspell each option of a callable: each must be refused, with the one that was meant and with all names."""
    for option in options:
        wrong = option[:-1] if option[:-1] not in ("", *options) else option + "x"
        with pytest.raises(UnknownOption) as caught:
            call(function, None, **{wrong: None})
        if len(option) > 1:
            assert f"{wrong!r}. Did you mean" in str(caught.value), caught.value
        assert all(known in str(caught.value) for known in options)
        assert caught.value.param == wrong
