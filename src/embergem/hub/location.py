"""Where a model's files are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Location:
    """A model that is on this machine.

    `id` is the name it is known by: the hub id, with the revision if one was named (see `revised`), or a directory's
    last path component, never an absolute path.
    `path` is a directory laid out as sentence-transformers saves it, or a GGUF file. `revision` is the hub commit, if
    known. A model that lost its dense layers takes them from the checkpoint in the directory `dense_from`. It may do
    without them where `allow_missing_dense` says so.
    """

    id: str
    path: Path
    revision: str | None = None
    dense_from: Path | None = None
    allow_missing_dense: bool = False


def revised(model: str, revision: str | None) -> str:
    """Return what a model is called at a revision that was named: two revisions are two models.

    >>> revised("org/name", "v1.0"), revised("org/name", None)
    ('org/name@v1.0', 'org/name')
    """
    return model if revision is None else f"{model}@{revision}"
