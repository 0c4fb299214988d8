"""Packed weights on disk: a later start maps them instead of packing anew.

They are in `packed` under the cache directory; `crates/core/src/packed` writes and reads them.
`EMBERGEM_PACKED_LIMIT` bounds the size of all files together, such as "2GB"; "0" switches them off.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from embergem import _native, paths
from embergem.errors import UnsupportedOption

VARIABLE = "EMBERGEM_PACKED_LIMIT"
DEFAULT = "10GB"


@dataclass(frozen=True, slots=True)
class Packed:
    """One file: its bytes, when it was used last, and what it was made for (empty where it is damaged)."""

    path: Path
    size: int
    used: datetime
    weights: tuple[Path, ...]
    dtype: str
    instruction_set: str


def directory() -> Path:
    """Return the directory of the files; it need not exist."""
    return paths.cache_root() / "packed"


def limit() -> int:
    """Return the most bytes that the files may have together; 0 is off.

    Raises:
        UnsupportedOption: EMBERGEM_PACKED_LIMIT is not a size.
    """
    text = os.environ.get(VARIABLE) or DEFAULT
    size = _native.packed_limit(text)
    if size is None:
        raise UnsupportedOption(f'{VARIABLE}={text!r} is not a size; give one such as "2GB", or "0" to keep nothing')
    return size


def place() -> str | None:
    """Return the directory for the executor; None where nothing is to be kept."""
    return str(directory()) if limit() else None


def kept() -> list[Packed]:
    """List the files, the longest unused first."""
    rows = []
    for path, size, used, made_for in _native.kept_packed(str(directory())):
        weights, variant = made_for or ([], ["", ""])
        when = datetime.fromtimestamp(used, UTC)
        rows.append(Packed(path, size, when, tuple(weights), variant[0].lower(), variant[1]))
    return rows


def clear() -> int:
    """Delete all files and return how many bytes that frees; models in use keep theirs until they are closed."""
    freed = 0
    for file in kept():
        file.path.unlink(missing_ok=True)
        freed += file.size
    return freed
