"""A fast, exact embedding engine. Each public name imports its module at first use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embergem import errors as errors
    from embergem.async_embedder import AsyncEmbedder as AsyncEmbedder
    from embergem.client.client import AsyncClient as AsyncClient
    from embergem.client.client import Client as Client
    from embergem.compat.mistralrs.builder import EmbeddingModel as EmbeddingModel
    from embergem.compat.mistralrs.builder import EmbeddingModelBuilder as EmbeddingModelBuilder
    from embergem.compat.mistralrs.builder import MultiModelBuilder as MultiModelBuilder
    from embergem.compat.mistralrs.requests import EmbeddingArchitecture as EmbeddingArchitecture
    from embergem.compat.mistralrs.requests import EmbeddingRequest as EmbeddingRequest
    from embergem.compat.mistralrs.requests import ModelDType as ModelDType
    from embergem.compat.mistralrs.requests import Which as Which
    from embergem.compat.mistralrs.runner import Runner as Runner
    from embergem.embedder import Embedder as Embedder
    from embergem.errors import EmbergemError as EmbergemError
    from embergem.errors import TruncationWarning as TruncationWarning
    from embergem.sdk.base import Ranked as Ranked
    from embergem.tasks import Task as Task

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
    "AsyncClient": "client.client",
    "AsyncEmbedder": "async_embedder",
    "Client": "client.client",
    "Embedder": "embedder",
    "EmbeddingArchitecture": "compat.mistralrs.requests",
    "EmbeddingModel": "compat.mistralrs.builder",
    "EmbeddingModelBuilder": "compat.mistralrs.builder",
    "EmbeddingRequest": "compat.mistralrs.requests",
    "EmbergemError": "errors",
    "ModelDType": "compat.mistralrs.requests",
    "MultiModelBuilder": "compat.mistralrs.builder",
    "Ranked": "sdk.base",
    "Runner": "compat.mistralrs.runner",
    "Task": "tasks",
    "TruncationWarning": "errors",
    "Which": "compat.mistralrs.requests",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("embergem.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'embergem' has no attribute {name!r}")
    return getattr(importlib.import_module(f"embergem.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
