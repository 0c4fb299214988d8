"""Which weight files were already read from end to end for values that are not finite.

The scan takes a part of a second for a large embedding table that is in memory and much longer from a slow disk, so it
is done once for each state of the files: path, size and time of change.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from embergem.checkpoint import cache

log = logging.getLogger(__name__)


def remembered(weights: Sequence[tuple[str, Path]]) -> bool:
    """Return whether exactly these files, unchanged since, were found sound."""
    return _mark(weights).exists()


def remember(weights: Sequence[tuple[str, Path]]) -> None:
    """Note that these files are sound. Where the cache cannot be written the scan is merely done again."""
    mark = _mark(weights)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        log.debug("cannot remember the scan of the weights in %s: %s", mark.parent, error)


def _mark(weights: Sequence[tuple[str, Path]]) -> Path:
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for _, path in weights]
    return cache.root() / "scanned" / hashlib.sha256(repr(states).encode()).hexdigest()[:32]
