"""embergem in the libraries people use already; each module needs the extra of its name and is imported by its user.

Each puts the right prompt on each side by itself: the query's on what is looked for, the document's on what is stored.
"""

from pathlib import Path

from embergem.embedder import Embedder
from embergem.tasks import Task

Model = Embedder | str | Path | None
"""A loaded model, or what `Embedder` takes to load one: hub id, alias, directory, server address, None."""


def loaded(model: Model) -> Embedder:
    """Return the embedder that a user's `model` means."""
    return model if isinstance(model, Embedder) else Embedder(model)


def task_or_none(embedder: Embedder, task: str | None) -> str | None:
    """Return `task`, or None for a model that has no prompt for it.

    A name that is no `Task` at all goes on to a model with prompts, which refuses it where it has none of that name.
    """
    if task in embedder.tasks:
        return task
    return None if not embedder.tasks or task in list(Task) else task


def missing(package: str, extra: str) -> ImportError:
    """The error for a library that is not installed."""
    return ImportError(f"this needs {package}: pip install 'embergem[{extra}]'", name=package)
