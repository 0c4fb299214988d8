"""The forms in which vectors are returned, and the cosine between vectors of any form."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embergem.errors import InvalidRequest, UnsupportedOption
from embergem.suggestions import did_you_mean
from embergem.types import Vectors

Output = Literal["array", "list", "float16", "int8", "binary"]
"""Names of the forms; see `convert`."""

Converted = Vectors | list[list[float]] | NDArray[np.float16] | NDArray[np.int8] | NDArray[np.uint8]


def convert(vectors: Vectors, output: Output) -> Converted:
    """Convert `vectors` (n, d) to the form `output`, each row by itself.

    - "array": float32 (n, d), unchanged;
    - "list": lists of Python floats;
    - "float16": rounded, (n, d);
    - "int8": (n, d), each row scaled so that its largest number becomes ±127: cosines stay, lengths do not;
    - "binary": one bit a number, set where the number is above 0, eight to a byte, the first in the highest bit: uint8
      (n, d / 8 rounded up).

    Raises:
        UnsupportedOption: `output` is not one of these.

    >>> convert(np.float32([[0.5, -0.25, 0.0, 0.1]]), "int8")
    array([[127, -64,   0,  25]], dtype=int8)
    >>> convert(np.float32([[0.5, -0.25, 0.0, 0.1]]), "binary")
    array([[144]], dtype=uint8)
    """
    return converter(output)(vectors)


def converter(output: Output) -> Callable[[Vectors], Converted]:
    """Return the function that converts vectors to the form `output`; raises as `convert`."""
    if output not in _CONVERTERS:
        raise UnsupportedOption(
            f"output={output!r} is not a form of vectors.{did_you_mean(str(output), get_args(Output))} Choose one of: "
            f"{', '.join(get_args(Output))}.",
            param="output",
        )
    return _CONVERTERS[output]


def similarity(a: ArrayLike, b: ArrayLike) -> Vectors:
    """Return the cosine of every vector of `a` (n, d) with every vector of `b` (m, d), as (n, m) float32.

    The vectors can have every form of `Output`. Two arrays of uint8 are packed bits: their cosine is that of vectors of
    ±1, which is 1 - 2 · (number of bits that differ) / (number of bits).

    Raises:
        InvalidRequest: The arrays are not vectors of the same size and kind, or a vector is all zeros.
    """
    packed = [np.asarray(vectors).dtype == np.uint8 for vectors in (a, b)]
    if packed[0] != packed[1]:
        raise InvalidRequest(
            "One of a and b is packed bits (uint8) and the other is not. Embed both with the same output."
        )
    prepare: Callable[[ArrayLike, str], NDArray[Any]] = _rows if packed[0] else _unit
    first, second = prepare(a, "a"), prepare(b, "b")
    if first.shape[1] != second.shape[1]:
        raise InvalidRequest(
            f"a has vectors of size {first.shape[1]} and b of size {second.shape[1]}. Embed both with the same model "
            "and the same dimensions."
        )
    cosines: Vectors = _bit_cosines(first, second) if packed[0] else first @ second.T
    return cosines


def _to_list(vectors: Vectors) -> list[list[float]]:
    numbers: list[list[float]] = vectors.tolist()
    return numbers


def _to_int8(vectors: Vectors) -> NDArray[np.int8]:
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scale = np.float32(127) / np.maximum(largest, np.float32(1e-30))
    numbers: NDArray[np.int8] = np.rint(vectors * scale).astype(np.int8)
    return numbers


_CONVERTERS: dict[Output, Callable[[Vectors], Converted]] = {
    "array": lambda vectors: vectors,
    "list": _to_list,
    "float16": lambda vectors: vectors.astype(np.float16),
    "int8": _to_int8,
    "binary": lambda vectors: np.packbits(vectors > 0, axis=1),
}


def _rows(vectors: ArrayLike, name: str) -> NDArray[Any]:
    array = np.atleast_2d(np.asarray(vectors))
    if array.ndim != 2 or array.shape[1] == 0:
        raise InvalidRequest(f"{name} has the shape {np.shape(vectors)}. Give one vector (d,) or several (n, d).")
    return array


def _unit(vectors: ArrayLike, name: str) -> Vectors:
    array = _rows(vectors, name).astype(np.float32, copy=False)
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths)) or not np.all(lengths > 0):
        raise InvalidRequest(f"{name} has a vector that is all zeros or not finite, so its cosine is undefined.")
    unit: Vectors = array / lengths
    return unit


def _bit_cosines(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Vectors:
    bits = np.float32(8 * first.shape[1])
    cosines = np.empty((len(first), len(second)), dtype=np.float32)
    for row, one in zip(cosines, first, strict=True):
        row[:] = 1 - 2 * np.bitwise_count(one ^ second).sum(axis=1, dtype=np.float32) / bits
    return cosines
