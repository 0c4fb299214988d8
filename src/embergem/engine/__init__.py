"""Requests in, vectors out: the scheduler, the loop that runs batches, and `Engine`, which ties them to a model."""

from embergem.engine.engine import Engine
from embergem.types import Request, Result

__all__ = ["Engine", "Request", "Result"]
