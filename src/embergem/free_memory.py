"""Memory of the process: what it keeps of freed memory, its return to the system, and whether there is enough left.

glibc raises its thresholds whenever a large block is freed, up to 32 MiB for a block and 64 MiB for the free end of the
heap of each thread. `malloc_trim` does not return these ends either, so a few large requests would leave a server with
tens of MiB more than before.

Separate because the engine returns memory after a load and the server after large requests.
"""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any

KEPT = 1024 * 1024
"""Most bytes at the free end of a thread's heap, and the size of blocks from which on each is returned when freed."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt


@cache
def _function(name: str) -> Any:
    """Return a function of glibc; None with other C libraries."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def limit_kept_memory() -> bool:
    """Make the process keep little freed memory, whatever it allocates. Return False with another C library."""
    if (mallopt := _function("mallopt")) is None:
        return False
    return all(mallopt(parameter, KEPT) == 1 for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))


def return_free_memory() -> None:
    """Return free memory to the system. With other C libraries than glibc, do nothing. It takes milliseconds."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def require_address_space(size: int) -> None:
    """Fail now if the limit of the address space (`ulimit -v`) does not leave `size` bytes.

    The tokenizers library ends the process if it gets no memory. Other threads may take the memory after the check.

    Raises:
        MemoryError: It leaves less.
    """
    if sys.platform == "win32":
        return
    import resource

    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return
    try:
        mmap.mmap(-1, size).close()
    except OSError as error:
        raise MemoryError(f"{size} bytes of address space are not left.") from error
