"""Where a model's files are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Location:
    """A model that is on this machine.

    `id` is the name it is known by: the hub id, or a directory's last path component, never an absolute path.
    `path` is a directory laid out as sentence-transformers saves it. `revision` is the hub commit, where known.
    """

    id: str
    path: Path
    revision: str | None = None
