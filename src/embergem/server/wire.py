"""Vectors as they go over the wire: numbers or base64, of float32 or of something smaller."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.errors import InvalidRequest
from embergem.protocol import Dtype, Encoding
from embergem.sdk.outputs import shape
from embergem.types import Vectors

FLOAT16_MAX = 65504.0


def encode(vectors: Vectors, dtype: Dtype, encoding: Encoding) -> list[Any]:
    """Encode each row of `vectors` (n, d) by itself: a list of numbers, or base64 of little-endian bytes.

    What the smaller dtypes are is said in `embergem.sdk.outputs.shape`, which gives the same bits in a program.

    Raises:
        InvalidRequest: A number that float16 has no room for.

    >>> encode(np.float32([[0.5, -0.25, 0.0, 0.1]]), "int8", "float")
    [[127, -64, 0, 25]]
    >>> encode(np.float32([[0.5, -0.25, 0.0, 0.1]]), "binary", "base64")
    ['kA==']
    """
    numbers = _AS[dtype](vectors)
    if encoding == "float":
        rows: list[Any] = numbers.tolist()
        return rows
    little = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)
    return [b64encode(row).decode("ascii") for row in np.ascontiguousarray(little)]


def _float16(vectors: Vectors) -> NDArray[Any]:
    if (largest := float(np.abs(vectors).max())) > FLOAT16_MAX:
        raise InvalidRequest(
            f"a vector has a number of size {largest:g} and float16 ends at {FLOAT16_MAX:g}; "
            "take encoding_dtype float32",
            param="encoding_dtype",
        )
    return np.asarray(shape(vectors, "float16"))


_AS: dict[Dtype, Callable[[Vectors], NDArray[Any]]] = {
    "float32": lambda vectors: vectors,
    "float16": _float16,
    "int8": lambda vectors: np.asarray(shape(vectors, "int8")),
    "binary": lambda vectors: np.asarray(shape(vectors, "binary")),
}
