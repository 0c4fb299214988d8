"""Classes that make embergem the embedding model of other libraries, one module a library.

Each module needs the extra of its name (`pip install 'embergem[chroma]'`) and is imported explicitly. The classes embed
queries with the model's query prompt and stored texts with its document prompt.
"""

import os
from functools import lru_cache
from pathlib import Path

from embergem.embedder import Embedder
from embergem.tasks import Task

Model = Embedder | str | Path | None
"""An `Embedder`, or the argument `model` of one: hub id, alias, directory, server address, or None."""


def to_embedder(model: Model) -> Embedder:
    """Return `model` itself if it is an embedder, else load it."""
    return model if isinstance(model, Embedder) else Embedder(model)


@lru_cache(maxsize=4)
def shared_embedder(model: str | None, dtype: str | None = None) -> Embedder:
    """Load a model once for all objects that name it: scikit-learn and LanceDB make many copies of an object."""
    return Embedder(model, dtype=dtype)


if hasattr(os, "register_at_fork"):  # a forked process cannot use the models of its parent
    os.register_at_fork(after_in_child=shared_embedder.cache_clear)


def task_or_none(embedder: Embedder, task: str | None) -> str | None:
    """Return `task`, or None if the model has no prompt for it.

    A name that is not a `Task` is returned if the model has any prompts: the model then refuses a task that it does not
    have.
    """
    if task in embedder.tasks:
        return task
    return None if not embedder.tasks or task in list(Task) else task


def missing_package(package: str, extra: str) -> ImportError:
    """Return the error for a library that is not installed."""
    return ImportError(
        f"This module needs the package {package}. Install it: pip install 'embergem[{extra}]'", name=package
    )
