"""Writes safetensors files: a JSON header with names, shapes and offsets, then the bytes, one piece at a time.

`quantised` and `transformed` round a matrix to integers with scales, the forms that compiled directories store.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embergem.ops import int8

Floats = NDArray[np.float32]
Dtype = Literal["F32", "BF16", "I16", "I8"]
_SIZE = {"F32": 4, "BF16": 2, "I16": 2, "I8": 1}
_KIND = {"F32": "<f4", "I16": "<i2", "I8": "i1"}

INTEGER_MAX: dict[Dtype, int] = {"I8": 127, "I16": 32_767}
"""Largest integer of each integer type."""

INT8_GROUP = 32
"""Neighbours in a row of int8 that share a scale. One outlier costs precision in all values that share its scale."""


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """A tensor to be written. `pieces` yields its values in order, in arrays of any shape; BF16 is rounded here."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    pieces: Callable[[], Iterable[NDArray[Any]]]


def write_safetensors(path: Path, tensors: Sequence[OutputTensor]) -> None:
    """Write a safetensors file. The file gets its name when it is complete."""
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


def quantised(matrix: OutputTensor) -> tuple[OutputTensor, OutputTensor]:
    """Return the integers and the scales of a matrix, as two tensors; crates/core/src/format/integers.rs reads them.

    The dtype of `matrix` is I8 or I16, and its pieces are float32 arrays of whole rows. The scales are called like the
    matrix with `.scales` after it: shape `(rows, 1)` for I16, `(rows, ceil(columns / 32))` for I8.
    """
    rows, columns = matrix.shape
    group = columns if matrix.dtype == "I16" else INT8_GROUP

    def integers() -> Iterator[NDArray[np.int16]]:
        return (_integers(piece, group, INTEGER_MAX[matrix.dtype]) for piece in matrix.pieces())

    def scales() -> Iterator[Floats]:
        return (_scales(piece, group, INTEGER_MAX[matrix.dtype]) for piece in matrix.pieces())

    shape = (rows, -(-columns // group))
    return (
        OutputTensor(matrix.name, matrix.shape, matrix.dtype, integers),
        OutputTensor(f"{matrix.name}.scales", shape, "F32", scales),
    )


def transformed(matrix: OutputTensor, exponents: NDArray[np.int8]) -> tuple[OutputTensor, OutputTensor, OutputTensor]:
    """Return the integers, the scales and the exponents of a matrix of int8 products, as three tensors.

    The integers are those that the kernels multiply: `embergem.ops.int8` specifies them. Channel i is divided by
    its `row_factors`, and groups of 128 channels are multiplied by a Hadamard matrix. The columns are whole groups. The
    scales have the shape (rows, groups), the exponents (columns,).
    """
    rows, columns = matrix.shape
    factors = np.reciprocal(int8.row_factors(exponents))

    def integers() -> Iterator[NDArray[np.int32]]:
        return (int8.quantise(piece * factors)[0] for piece in matrix.pieces())

    def scales() -> Iterator[Floats]:
        # Divided by the length of a group, so that another transform of the integers gives the values.
        return (int8.quantise(piece * factors)[1] / np.float32(int8.GROUP) for piece in matrix.pieces())

    return (
        OutputTensor(matrix.name, matrix.shape, "I8", integers),
        OutputTensor(f"{matrix.name}.scales", (rows, columns // int8.GROUP), "F32", scales),
        OutputTensor(f"{matrix.name}.exponents", (columns,), "I8", lambda: (exponents,)),
    )


def _scales(rows: Floats, group: int, largest: int) -> Floats:
    """Return the scale of each group, shape `(n, groups)`: the largest value of a group becomes `largest`."""
    padding = -rows.shape[1] % group
    padded = np.pad(np.abs(rows), ((0, 0), (0, padding)))
    peaks: Floats = padded.reshape(len(rows), -1, group).max(axis=2)
    return peaks / np.float32(largest)


def _integers(rows: Floats, group: int, largest: int) -> NDArray[np.int16]:
    scales = np.repeat(_scales(rows, group, largest), group, axis=1)[:, : rows.shape[1]]
    units = np.divide(rows, scales, out=np.zeros_like(rows), where=scales > 0)
    return np.clip(np.rint(units), -largest, largest).astype(np.int16)


def _bytes(values: NDArray[Any], dtype: Dtype) -> bytes:
    return _bfloat16(values) if dtype == "BF16" else values.astype(_KIND[dtype], copy=False).tobytes()


def _bfloat16(values: Floats) -> bytes:
    """Round finite values to bfloat16, to nearest and ties to even."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    upper: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return upper.tobytes()
