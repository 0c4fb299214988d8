"""Notes in the cache directory about weight files in one state: path, size and time of change.

A note spares work at later starts. One says that the weights were scanned for non-finite values, which takes part of a
second for a large embedding table in memory and much longer from a slow disk. Others hold measurements and the results
of the self-check.

Separate because the hub, the self-check and the engine keep notes.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from embergem import paths

log = logging.getLogger(__name__)


def is_scanned(weights: Sequence[tuple[str, Path]]) -> bool:
    """Return whether these files, unchanged since, were scanned and have finite values only."""
    return note_path(weights, "scanned").exists()


def mark_scanned(weights: Sequence[tuple[str, Path]]) -> None:
    """Note that these files were scanned and have finite values only."""
    write_note(note_path(weights, "scanned"), "")


def note_path(weights: Sequence[tuple[str, Path]], kind: str, variant: str = "") -> Path:
    """Return the file of a note about these files in their present state. It need not exist.

    `weights` are pairs of a tensor name prefix and a file. `kind` is the directory of the note; notes of one kind with
    different `variant` are different notes.
    """
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for _, path in weights]
    return paths.cache_root() / kind / hashlib.sha256(repr((states, variant)).encode()).hexdigest()[:32]


def write_note(note: Path, content: str) -> None:
    """Write a note. If the cache directory cannot be written, the work is done again at the next load."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(content)
    except OSError as error:
        log.debug("The note %s cannot be written: %s", note, error)
