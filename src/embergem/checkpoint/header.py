"""The header of a safetensors file: names and shapes, without the weights. The executor checks everything again."""

import struct
from pathlib import Path

from embergem.checkpoint.files import parse_json, shortened
from embergem.errors import CorruptCheckpoint

MOST = 100_000_000
"""Bytes of a header that the format allows."""


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in the file, by name.

    Raises:
        CorruptCheckpoint: It is not a safetensors file, or is cut off.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MOST + 1
        if length > min(MOST, size - 8):
            raise CorruptCheckpoint(f"{path} is not a valid safetensors file: its header ends outside the file")
        header = parse_json(file.read(length), path)
    if not isinstance(header, dict):
        raise CorruptCheckpoint(f"{path}: the header should be a JSON object, found {type(header).__name__}")
    return {name: _shape(path, name, entry) for name, entry in header.items() if name != "__metadata__"}


def _shape(path: Path, name: str, entry: object) -> tuple[int, ...]:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise CorruptCheckpoint(f"{path}: tensor {name} should have a shape of whole numbers, found {shortened(shape)}")
    return tuple(shape)
