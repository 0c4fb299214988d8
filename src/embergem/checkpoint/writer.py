"""Writing safetensors: a JSON header with names, shapes and places, then the bytes. Tensors pass through in pieces."""

import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Dtype = Literal["F32", "BF16", "I16", "I8"]
_SIZE = {"F32": 4, "BF16": 2, "I16": 2, "I8": 1}
_KIND = {"F32": "<f4", "I16": "<i2", "I8": "i1"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor to be written: `pieces` gives its values in order, in arrays of any shape; BF16 is rounded here."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    pieces: Callable[[], Iterable[NDArray[Any]]]


def write(path: Path, tensors: Sequence[Stored]) -> None:
    """Write a file; it appears under its name when it is whole."""
    header, end = {}, 0
    for tensor in tensors:
        start, end = end, end + int(np.prod(tensor.shape, dtype=np.int64)) * _SIZE[tensor.dtype]
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in tensors:
                for piece in tensor.pieces():
                    file.write(_bytes(piece, tensor.dtype))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _bytes(values: NDArray[Any], dtype: Dtype) -> bytes:
    return _rounded(values) if dtype == "BF16" else values.astype(_KIND[dtype], copy=False).tobytes()


def _rounded(values: Floats) -> bytes:
    """Round to bfloat16, to nearest and ties to even; the values are finite."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    upper: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return upper.tobytes()
