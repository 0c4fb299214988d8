"""Checks the inputs of a call and makes the `Request` for them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from embergem.errors import InvalidTask, InvalidType
from embergem.types import Request

Texts = str | Iterable[str] | Iterable[Sequence[int]]
"""Inputs of a call: one text, texts, or lists of token ids."""

Title = str | Sequence[str | None] | None
"""One title for all texts, or one (or None) for each text."""


def input_list(texts: Texts) -> list[str] | list[Sequence[int]]:
    """Return the inputs as a list of strings or a list of rows of token ids. One string becomes a list of one.

    Raises:
        InvalidType: `texts` is bytes, a mapping, a table or no iterable; or an element is neither text nor a list of
            token ids, or is of another kind than the first.
    """
    if isinstance(texts, str):
        return [texts]
    inputs = list(iterate_inputs(texts))
    if set(map(type, inputs)) != {str}:  # most calls need no check of each input
        for index, value in enumerate(inputs):
            check_input(index, value, isinstance(inputs[0], str))
    return cast("list[str] | list[Sequence[int]]", inputs)


def iterate_inputs(texts: Texts) -> Iterator[str | Sequence[int]]:
    """Iterate over the inputs; one string counts as one input.

    Raises:
        InvalidType: `texts` is bytes, a mapping, a table or no iterable.
    """
    if isinstance(texts, str):
        return iter([texts])
    if advice := _advice_for_container(texts):
        raise InvalidType(f"texts is of type {type(texts).__name__}. {advice}", param="texts")
    return iter(texts)


def check_input(index: int, value: object, is_text: bool) -> None:
    """Check the type of one input; `is_text` says whether the first input of the call is a text.

    Raises:
        InvalidType: The input is neither text nor a list of token ids, or is of another kind than the first.
    """
    if isinstance(value, str):
        if is_text:
            return
        raise InvalidType("is a text, and the first input is a list of token ids. " + _KINDS, input_index=index, **_AT)
    if described := _missing(value):
        raise InvalidType(
            f"is {described}, a missing value. Leave it out, or give '' for a text without words.",
            input_index=index, **_AT,
        )  # fmt: skip
    kind = type(value).__name__
    if isinstance(value, bytes | bytearray | memoryview):
        raise InvalidType(f"is of type {kind}. Decode it to str first: text.decode().", input_index=index, **_AT)
    if isinstance(value, Mapping):
        keys = ", ".join(map(repr, list(value)[:5]))
        raise InvalidType(f"is a {kind} with the keys {keys}. Give its text, a string.", input_index=index, **_AT)
    if not isinstance(value, Sequence | np.ndarray):
        raise InvalidType(f"is of type {kind}. {_KINDS}", input_index=index, **_AT)
    if len(value) and isinstance(value[0], str):
        raise InvalidType(
            f"is a {kind} of strings. Give each string as an input of its own, which then has a vector of its own.",
            input_index=index, **_AT,
        )  # fmt: skip
    if is_text:
        raise InvalidType(f"is a {kind}, and the first input is a text. {_KINDS}", input_index=index, **_AT)


_AT: dict[str, Any] = {"param": "texts"}
_KINDS = "Give strings only, or lists of token ids only; one list of ids is a list in a list."


def _advice_for_container(texts: object) -> str | None:
    """Return what to give instead of something whose elements are not the texts; None if it can be iterated over."""
    if isinstance(texts, bytes | bytearray | memoryview):
        return "Decode it to str first: texts.decode()."
    if isinstance(texts, Mapping):
        return "Its elements are the keys. Give the texts: list(texts.values())."
    columns = getattr(texts, "column_names", None) or getattr(texts, "columns", None)
    if columns is not None and not callable(columns):  # a table of pandas, polars, Arrow or datasets
        names = [str(name) for name in columns]
        column = "text" if "text" in names or not names else names[0]
        return f"Give one of its columns, such as texts[{column!r}]. It has: {', '.join(names[:20])}."
    if not isinstance(texts, Iterable) and not hasattr(texts, "__getitem__"):
        return "Give a string, strings, or lists of token ids."
    return None


def _missing(value: object) -> str | None:
    """Return how a missing value of Python, NumPy or pandas prints; None for any other value."""
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in ("NAType", "NaTType")
    ):
        return str(value)
    return None


def to_request(
    inputs: list[str] | list[Sequence[int]],
    *,
    task: str | None,
    title: Title,
    dimensions: int | None,
    truncate: bool,
    blocking: bool = False,
) -> Request:
    """Make the request for a backend from checked inputs; see `Request` for the arguments.

    Raises:
        InvalidTask: There is a task or title beside token ids, or the number of titles is not that of the texts.
        InvalidType: `dimensions` or `truncate` is of another type.
    """
    if dimensions is not None and (isinstance(dimensions, bool) or not hasattr(dimensions, "__index__")):
        raise InvalidType(
            f"dimensions={dimensions!r} is of type {type(dimensions).__name__}. Give a whole number, or None.",
            param="dimensions",
        )
    if not isinstance(truncate, bool | np.bool):
        raise InvalidType(
            f"truncate={truncate!r} is of type {type(truncate).__name__}. Give True or False.", param="truncate"
        )
    is_text = not inputs or isinstance(inputs[0], str)
    if task is not None and not is_text:
        raise InvalidTask(
            f"task={task!r} needs texts, but the inputs are token ids, which the model reads as they are. Leave the "
            "task out, or give texts.",
            param="task",
        )
    return Request(
        texts=cast("list[str]", inputs) if is_text else None,
        ids=None if is_text else cast("list[Sequence[int]]", inputs),
        task=task,
        titles=None if title is None else _title_list(title, len(inputs), is_text),
        dimensions=None if dimensions is None else int(dimensions),
        truncate=bool(truncate),
        blocking=blocking,
    )


def _title_list(title: str | Sequence[str | None], count: int, is_text: bool) -> list[str | None]:
    if not is_text:
        raise InvalidTask(
            "A title needs texts, but the inputs are token ids, which the model reads as they are. Leave the title "
            "out, or give texts.",
            param="title",
        )
    titles: list[str | None] = [title] * count if isinstance(title, str) else list(title)
    if len(titles) != count:
        raise InvalidTask(
            f"There are {len(titles)} titles for {count} texts. Give one title for all, or one for each.",
            param="title",
        )
    return titles


def stand_in(request: Request) -> Request:
    """Return a request with one empty text in place of no inputs.

    Its task, dimensions and truncation are checked as those of every request, and its vector has the right size.
    """
    return msgspec.structs.replace(request, texts=[""], titles=None)
