"""Where a model's files are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Location:
    """A model that is on this machine.

    `id` is the name it is known by: the hub id, or a directory's last path component, never an absolute path.
    `path` is a directory laid out as sentence-transformers saves it, or a GGUF file. `revision` is the hub commit, if
    known. A model that lost its dense layers takes them from the checkpoint in the directory `dense_from`. It may do
    without them where `allow_missing_dense` says so.
    """

    id: str
    path: Path
    revision: str | None = None
    dense_from: Path | None = None
    allow_missing_dense: bool = False
