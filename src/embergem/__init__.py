"""A fast, exact embedding engine. Each name below is loaded, with what it needs, when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embergem import errors as errors
    from embergem.async_embedder import AsyncEmbedder as AsyncEmbedder
    from embergem.builder import EmbeddingModel as EmbeddingModel
    from embergem.builder import EmbeddingModelBuilder as EmbeddingModelBuilder
    from embergem.builder import MultiModelBuilder as MultiModelBuilder
    from embergem.client import AsyncClient as AsyncClient
    from embergem.client import Client as Client
    from embergem.embedder import Embedder as Embedder
    from embergem.errors import EmbergemError as EmbergemError
    from embergem.errors import TruncationWarning as TruncationWarning
    from embergem.prompts import Task as Task
    from embergem.runner import Runner as Runner
    from embergem.sdk.methods import Ranked as Ranked
    from embergem.selectors import EmbeddingArchitecture as EmbeddingArchitecture
    from embergem.selectors import EmbeddingRequest as EmbeddingRequest
    from embergem.selectors import ModelDType as ModelDType
    from embergem.selectors import Which as Which

__version__ = "0.1.0"

__all__ = [
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
]

_HOMES = {
    "AsyncClient": "client",
    "AsyncEmbedder": "async_embedder",
    "Client": "client",
    "Embedder": "embedder",
    "EmbeddingArchitecture": "selectors",
    "EmbeddingModel": "builder",
    "EmbeddingModelBuilder": "builder",
    "EmbeddingRequest": "selectors",
    "EmbergemError": "errors",
    "ModelDType": "selectors",
    "MultiModelBuilder": "builder",
    "Ranked": "sdk.methods",
    "Runner": "runner",
    "Task": "prompts",
    "TruncationWarning": "errors",
    "Which": "selectors",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("embergem.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'embergem' has no attribute {name!r}")
    return getattr(importlib.import_module(f"embergem.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
