"""Checks the inputs of a call and makes the `Request` for them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np

from embergem.errors import InvalidRequest, InvalidTask, InvalidType
from embergem.types import Request

Texts = str | Iterable[str] | Iterable[Sequence[int]]
"""Inputs of a call: one text, texts, or lists of token ids."""

Title = str | Sequence[str | None] | None
"""One title for all texts, or one (or None) for each text."""


def input_list(texts: Texts) -> list[str] | list[Sequence[int]]:
    """Return the inputs as a list of strings or a list of rows of token ids. One string becomes a list of one.

    Raises:
        InvalidRequest: `texts` is no iterable, or is bytes.
        InvalidType: An element is neither text nor a list, or is of another kind than the first.
    """
    if isinstance(texts, str):
        return [texts]
    inputs = list(iterate_inputs(texts))
    if set(map(type, inputs)) not in ({str}, {list}):  # most calls need no check of each input
        for index, value in enumerate(inputs):
            check_input(index, value, isinstance(inputs[0], str))
    return cast("list[str] | list[Sequence[int]]", inputs)


def iterate_inputs(texts: Texts) -> Iterator[str | Sequence[int]]:
    """Iterate over the inputs; one string counts as one input.

    Raises:
        InvalidRequest: `texts` is no iterable, or is bytes.
    """
    if isinstance(texts, str):
        return iter([texts])
    if isinstance(texts, bytes | bytearray | memoryview):
        raise InvalidRequest(
            f"texts is of type {type(texts).__name__}. Decode it to str first: texts.decode().", param="texts"
        )
    try:
        return iter(texts)
    except TypeError:
        raise InvalidRequest(
            f"texts is of type {type(texts).__name__}. Give a string, strings, or lists of token ids.", param="texts"
        ) from None


def check_input(index: int, value: object, is_text: bool) -> None:
    """Check the type of one input; `is_text` says whether the first input of the call is a text.

    Raises:
        InvalidType: The input is neither text nor a list, or is of another kind than the first.
    """
    if isinstance(value, str) != is_text or not isinstance(value, str | Sequence | np.ndarray):
        raise InvalidType(
            f"is of type {type(value).__name__}. Give strings only, or lists of token ids only; one list of ids is a "
            "list in a list.",
            param="texts",
            input_index=index,
        )


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
    """
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
        dimensions=dimensions,
        truncate=truncate,
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
