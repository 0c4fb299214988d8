"""What was found out about weight files: that they were read from end to end for values that are not finite, and more.

The scan takes a part of a second for a large embedding table that is in memory and much longer from a slow disk, so it
is done once for each state of the files: path, size and time of change.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from embergem import paths

log = logging.getLogger(__name__)


def remembered(weights: Sequence[tuple[str, Path]]) -> bool:
    """Return whether exactly these files, unchanged since, were found sound."""
    return mark(weights, "scanned").exists()


def remember(weights: Sequence[tuple[str, Path]]) -> None:
    """Note that these files are sound."""
    write(mark(weights, "scanned"), "")


def mark(weights: Sequence[tuple[str, Path]], kind: str, variant: str = "") -> Path:
    """Return the file that notes something of this kind about exactly these files, unchanged since."""
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for _, path in weights]
    return paths.cache_root() / kind / hashlib.sha256(repr((states, variant)).encode()).hexdigest()[:32]


def write(note: Path, content: str) -> None:
    """Write a note. Where the cache cannot be written the work is merely done again at the next load."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(content)
    except OSError as error:
        log.debug("cannot remember what was found in %s: %s", note.parent, error)
