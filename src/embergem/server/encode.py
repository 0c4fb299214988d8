"""Encoding responses: vectors as numbers or base64, JSON row by row, and lists and texts in headers."""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from embergem.errors import InvalidRequest
from embergem.protocol import Dtype, Encoding
from embergem.sdk.outputs import convert
from embergem.types import Vectors

FLOAT16_MAX = 65504.0

MAX_HEADER = 1000
"""Characters of a list or a text in a header. Some clients refuse headers of 8,000 characters."""


def json_response(content: msgspec.Struct, status: int = 200) -> Response:
    """Return a response with a struct as JSON."""
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


def encode_vectors(vectors: Vectors, dtype: Dtype, encoding: Encoding) -> list[Any]:
    """Encode each row of `vectors` (n, d) by itself: as a list of numbers, or as base64 of little-endian bytes.

    `embergem.sdk.outputs.convert` describes the dtypes; it gives the same bits in process.

    Raises:
        InvalidRequest: A number is too large for float16.

    >>> encode_vectors(np.float32([[0.5, -0.25, 0.0, 0.1]]), "int8", "float")
    [[127, -64, 0, 25]]
    >>> encode_vectors(np.float32([[0.5, -0.25, 0.0, 0.1]]), "binary", "base64")
    ['kA==']
    """
    if dtype == "float16" and (largest := float(np.abs(vectors).max())) > FLOAT16_MAX:
        raise InvalidRequest(
            f"A vector has a number of size {largest:g}, and the largest float16 is {FLOAT16_MAX:g}. Use "
            "encoding_dtype float32.",
            param="encoding_dtype",
        )
    numbers: NDArray[Any] = vectors if dtype == "float32" else np.asarray(convert(vectors, dtype))
    if encoding == "float":
        rows: list[Any] = numbers.tolist()
        return rows
    little = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False)
    return [b64encode(row).decode("ascii") for row in np.ascontiguousarray(little)]


def encode_each(items: Iterable[msgspec.Struct]) -> list[Any]:
    """Encode each struct by itself; the result is a list of raw JSON to place in another struct.

    msgspec holds the GIL for a whole call, so encoding a large response in one call would block the event loop even
    from another thread. Other threads can run between two structs.
    """
    return [msgspec.Raw(msgspec.json.encode(item)) for item in items]


def quoted_list(names: Sequence[str]) -> str:
    """Join names with commas for a header, percent-encoded where necessary; a long list ends in `...`.

    >>> quoted_list(["size", "größe"])
    'size,gr%C3%B6%C3%9Fe'
    """
    # Percent-encoding may make 12 characters of one, so a name is cut before it.
    text = ",".join(quote(name[:80], safe=" :/@+-_.~", errors="replace") for name in names)
    return text if len(text) <= MAX_HEADER else text[: text.rindex(",", 0, MAX_HEADER)] + ",..."


def quoted_text(text: str) -> str:
    r"""Write text as a JSON string in ASCII for a header; a long text ends in `...`.

    >>> print(quoted_text("größe: {content}"))
    "gr\u00f6\u00dfe: {content}"
    """
    kept, end = text, ""
    while len(quoted := json.dumps(kept + end)) > MAX_HEADER:
        kept, end = kept[: len(kept) * MAX_HEADER // len(quoted)], "..."
    return quoted
