"""Reads what this process has in memory, by kind: packed weights, weight files, and memory of its own.

Separate because the server prints it at its start and `embergem doctor` for each model.
"""

from dataclasses import dataclass
from pathlib import Path

PROCESS = Path("/proc/self")
PACKED = (".packed",)
WEIGHTS = (".safetensors", ".gguf")
MIB = 2**20


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of physical memory that this process uses.

    Attributes:
        packed: Packed weights that are mapped from the cache. Processes that serve the same model share them.
        weights: Pages of weight files that are mapped and were read, such as rows of embedding tables.
        weights_mapped: Size of these files. It needs no memory by itself.
        anonymous: Memory without a file: buffers, caches, Python's objects, and weights that are not in the cache.
        programs: Pages of programs and libraries.
    """

    packed: int = 0
    weights: int = 0
    weights_mapped: int = 0
    anonymous: int = 0
    programs: int = 0

    def __str__(self) -> str:
        total = self.packed + self.weights + self.anonymous + self.programs
        return (
            f"{total / MIB:,.0f} MiB resident: {self.packed / MIB:,.0f} packed weights (mapped from the cache), "
            f"{self.weights / MIB:,.0f} of {self.weights_mapped / MIB:,.0f} weight files (mapped), "
            f"{self.anonymous / MIB:,.0f} anonymous, {self.programs / MIB:,.0f} programs and libraries"
        )


def memory_use(process: Path = PROCESS) -> MemoryUse | None:
    """Read the memory of this process from `smaps`; None on systems without that file."""
    try:
        text = (process / "smaps").read_text(errors="replace")
    except OSError:
        return None
    sums = dict.fromkeys(("packed", "weights", "weights_mapped", "anonymous", "programs"), 0)
    kind = "programs"
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if " " in name:  # the head of a mapping: addresses, permissions, offset, device, inode and path
            path = line.split(maxsplit=5)[5] if len(line.split(maxsplit=5)) > 5 else ""
            path = path.removesuffix(" (deleted)")
            kind = "packed" if path.endswith(PACKED) else "weights" if path.endswith(WEIGHTS) else "programs"
            continue
        size = int(value.split()[0]) * 1024 if value.strip().endswith("kB") else 0
        if name == "Size" and kind == "weights":
            sums["weights_mapped"] += size
        elif name == "Rss":
            sums[kind] += size
        elif name == "Anonymous":  # a part of Rss
            sums[kind] -= size
            sums["anonymous"] += size
    return MemoryUse(**sums)
