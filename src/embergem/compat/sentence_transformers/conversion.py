"""Converts the inputs of `encode` to texts, and its vectors to the form that the caller asked for.

Separate because it needs no model, and `model.py` has the members of the class only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.compat.sentence_transformers.quantization import quantize_embeddings
from embergem.compat.sentence_transformers.similarity import normalize_embeddings
from embergem.errors import InvalidType, UnsupportedOption
from embergem.types import Vectors


def cut_vectors(vectors: Vectors, dimensions: int | None, normalise: bool) -> Vectors:
    """Return the first `dimensions` components of each vector (n, d), scaled to length 1 if `normalise`.

    Raises:
        UnsupportedOption: `dimensions` is below 1.
    """
    if dimensions is not None and not dimensions >= 1:
        raise UnsupportedOption(f"truncate_dim={dimensions} is not possible. Give 1 or more.", param="truncate_dim")
    kept = np.ascontiguousarray(vectors[:, :dimensions])
    unit: Vectors = normalize_embeddings(kept) if normalise else kept
    return unit


def to_precision(vectors: Vectors, precision: str) -> NDArray[Any]:
    """Return vectors as float32 or as packed bits.

    Raises:
        UnsupportedOption: The precision is unknown, or its ranges would depend on the batch.
    """
    if precision in ("int8", "uint8"):
        raise UnsupportedOption(
            f"precision={precision!r} is not supported, because its ranges depend on the batch. Use "
            'Embedder.embed(output="int8"), which scales each vector by itself, or quantize_embeddings with ranges=.',
            param="precision",
        )
    return quantize_embeddings(vectors, precision)


def input_texts(inputs: Sequence[object]) -> list[str]:
    """Return the text of each input.

    Raises:
        InvalidType: An input is no text, such as a pair of texts.
    """
    texts = []
    for index, value in enumerate(inputs):
        text = value.get("text") if isinstance(value, Mapping) and set(value) == {"text"} else value
        if not isinstance(text, str):
            kind = (
                "a pair" if isinstance(value, list | tuple) and len(value) == 2 else f"of type {type(value).__name__}"
            )
            raise InvalidType(
                f"is {kind}. Give a text, or {{'text': a text}}: embergem embeds each text by itself.",
                param="inputs",
                input_index=index,
            )
        texts.append(str(text))
    return texts
