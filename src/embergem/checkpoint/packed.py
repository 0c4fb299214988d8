"""Packed weights on disk: files that a later start maps into memory instead of packing the weights again.

The files are in `packed` under the cache directory; `crates/core/src/packed` writes and reads them.
`EMBERGEM_PACKED_LIMIT` limits the size of all files together, such as "2GB"; "0" keeps no files, also none of
tokenizers. Those are in `tokenizers`. `crates/text/src/tables` writes them, and keeps at most eight; Gemma's has 19 MB.
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
class PackedFile:
    """A file of packed weights: its size in bytes, its last use, and the weights, dtype and kernels it is for.

    `weights` is empty, and `dtype` and `instruction_set` are "", if the file is damaged.
    """

    path: Path
    size: int
    used: datetime
    weights: tuple[Path, ...]
    dtype: str
    instruction_set: str


def directory() -> Path:
    """Return the directory of the files. It need not exist."""
    return paths.cache_root() / "packed"


def limit() -> int:
    """Return the largest size in bytes of all files together; 0 if no files are kept.

    Raises:
        UnsupportedOption: EMBERGEM_PACKED_LIMIT is not a size.
    """
    text = os.environ.get(VARIABLE) or DEFAULT
    size = _native.packed_limit(text)
    if size is None:
        raise UnsupportedOption(
            f'{VARIABLE}={text!r} is not a size. Set it to a size such as "2GB", or to "0" to keep no files.'
        )
    return size


def enabled_directory() -> str | None:
    """Return the directory as the native module takes it; None if no files are kept."""
    return str(directory()) if limit() else None


def tokenizers() -> Path:
    """Return the directory of the files that `crates/text` makes of large tokenizers. It need not exist."""
    return paths.cache_root() / "tokenizers"


def enabled_tokenizers() -> str | None:
    """Return the directory of tokenizers as the native module takes it; None if no files are kept."""
    return str(tokenizers()) if limit() else None


def list_files() -> list[PackedFile]:
    """List the files, the least recently used first."""
    rows = []
    for path, size, used, made_for in _native.kept_packed(str(directory())):
        weights, variant = made_for or ([], ["", ""])
        when = datetime.fromtimestamp(used, UTC)
        rows.append(PackedFile(path, size, when, tuple(weights), variant[0].lower(), variant[1]))
    return rows


def clear() -> int:
    """Delete all files, those of tokenizers too, and return how many bytes they had.

    A loaded model keeps its mapped file until it is closed.
    """
    sizes = {file.path: file.size for file in list_files()}
    sizes |= {path: path.stat().st_size for path in tokenizers().glob("*.tables")}
    for path in sizes:
        path.unlink(missing_ok=True)
    return sum(sizes.values())
