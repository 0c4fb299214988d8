"""`quantize_embeddings` of `sentence_transformers`: vectors as 8-bit integers or packed bits.

Separate because `SentenceTransformer.encode` and the public `util` use it, and it knows nothing of similarity.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.compat.sentence_transformers.arrays import to_array, to_matrix
from embergem.errors import UnsupportedOption
from embergem.keywords import checked_keywords
from embergem.sdk.results import caller_stacklevel

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
FEW = 100
"""That library warns if the ranges of int8 come from fewer vectors."""


@checked_keywords
def quantize_embeddings(
    embeddings: Any,
    precision: str,
    ranges: NDArray[np.float32] | None = None,
    calibration_embeddings: Any = None,
) -> NDArray[Any]:
    """Return vectors in fewer bits, by the formulas of that library.

    Args:
        embeddings: Vectors (n, d), or one vector (d,).
        precision: "float32"; "int8" or "uint8", 255 steps between the least and the largest value of each component;
            "ubinary", sign bits packed eight to a byte; "binary", the same minus 128, as int8.
        ranges: For 8 bits: least and largest value of each component, (2, d).
        calibration_embeddings: For 8 bits: vectors that `ranges` are taken from. By default they are `embeddings`, so
            that a vector depends on the others.

    Raises:
        UnsupportedOption: The precision is unknown.

    Example:
        >>> from embergem.sentence_transformers import quantize_embeddings
        >>> quantize_embeddings([[0.5, -1.0, 2.0, -0.1, 1.0, 1.0, -1.0, -1.0]], "ubinary")
        array([[172]], dtype=uint8)
    """
    if precision not in PRECISIONS:
        raise UnsupportedOption(
            f"precision={precision!r} is unknown. Give one of: {', '.join(PRECISIONS)}.", param="precision"
        )
    vectors = to_array(embeddings)
    if precision == "float32":
        return vectors.astype(np.float32, copy=False)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    if ranges is None:
        ranges = _ranges(vectors if calibration_embeddings is None else to_array(calibration_embeddings))
    low, high = to_matrix(ranges)
    steps = np.clip(np.floor((vectors - low) / ((high - low) / np.float32(255))), 0, 255)
    shifted: NDArray[Any] = steps.astype(np.uint8) if precision == "uint8" else (steps - 128).astype(np.int8)
    return shifted


def _ranges(vectors: NDArray[Any]) -> NDArray[np.float32]:
    rows = np.atleast_2d(vectors)
    if len(rows) < FEW:
        warnings.warn(
            f"The ranges of 8-bit vectors come from {len(rows)} vectors. Give ranges= or calibration_embeddings= with "
            f"at least {FEW} vectors of your texts, or use Embedder.embed(output='int8'), which needs no ranges.",
            UserWarning,
            stacklevel=caller_stacklevel(),
        )
    return np.stack([rows.min(axis=0), rows.max(axis=0)]).astype(np.float32)
