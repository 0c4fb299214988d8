"""The engine of a model: tokenizes requests, queues and batches their rows, runs the model, caches the vectors."""

from embergem.engine.engine import Engine
from embergem.types import Request, Result

__all__ = ["Engine", "Request", "Result"]
