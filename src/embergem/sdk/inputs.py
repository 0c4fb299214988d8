"""From what a caller gives to requests: checked, and in pieces of a bounded size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np
from msgspec.structs import replace

from embergem.errors import EmptyInput, InvalidRequest, InvalidTask, InvalidType
from embergem.types import Request

Texts = str | Iterable[str] | Iterable[Sequence[int]]

PIECE_INPUTS = 256
PIECE_SIZE = 2**18
"""Most inputs of a piece, and most characters of text (or token ids) together."""


def as_list(texts: Texts) -> list[str] | list[Sequence[int]]:
    """Return the inputs as a list: strings only, or rows of token ids only. One string counts as a list of one.

    Raises:
        InvalidRequest: It is neither.
    """
    if isinstance(texts, str):
        return [texts]
    inputs = list(each(texts))
    for index, value in enumerate(inputs):
        check(index, value, isinstance(inputs[0], str))
    return cast("list[str] | list[Sequence[int]]", inputs)


def each(texts: Texts) -> Iterator[str | Sequence[int]]:
    """Iterate over the inputs; one string counts as one input.

    Raises:
        InvalidRequest: `texts` cannot be iterated over, or is bytes.
    """
    if isinstance(texts, str):
        return iter([texts])
    if isinstance(texts, bytes | bytearray | memoryview):
        raise InvalidRequest("texts is bytes; decode it to str first", param="texts")
    try:
        return iter(texts)
    except TypeError:
        raise InvalidRequest(f"texts is of type {type(texts).__name__}; give strings or lists of token ids") from None


def check(index: int, value: object, is_text: bool) -> None:
    """Refuse an input that is of another kind than the first."""
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
    title: str | Sequence[str | None] | None,
    dimensions: int | None,
    truncate: bool,
) -> Request:
    """Make the request that the engine takes.

    Raises:
        InvalidTask: A task or title beside token ids, or another number of titles than of texts.
    """
    is_text = isinstance(inputs[0], str) if inputs else True
    if task is not None and not is_text:
        raise InvalidTask(f"task={str(task)!r} needs texts; token ids are embedded as they are", param="task")
    return Request(
        texts=cast("list[str]", inputs) if is_text else None,
        ids=None if is_text else cast("list[Sequence[int]]", inputs),
        task=None if task is None else str(task),
        titles=_titles(title, len(inputs), is_text),
        dimensions=dimensions,
        truncate=truncate,
    )


def pieces(request: Request) -> Iterator[tuple[int, Request]]:
    """Split a request, in order; each piece comes with the index of its first input.

    What is too large for one piece is bulk work: a query that arrives meanwhile goes first.

    Raises:
        EmptyInput: There is nothing in it.
    """
    inputs = request.texts if request.texts is not None else request.ids
    if not inputs:
        raise EmptyInput("there are no texts. Give at least one; it may be empty.", param="texts")
    start = 0
    lengths = list(runs(len(value) for value in inputs))
    if len(lengths) > 1:
        request = replace(request, lane="bulk")
    for length in lengths:
        yield start, part(request, slice(start, start + length))
        start += length


def part(request: Request, which: slice) -> Request:
    """The same request for some of its inputs."""
    return replace(
        request,
        texts=request.texts and request.texts[which],
        ids=request.ids and request.ids[which],
        titles=request.titles and request.titles[which],
    )


def runs(sizes: Iterable[int], most: int | None = None) -> Iterator[int]:
    """Say how many inputs each piece takes, given their sizes in order, so that it has no more than `most` together.

    An input that is larger goes alone. None is `PIECE_SIZE`.

    >>> list(runs([10] * 300)), list(runs([10, 10, 50, 10], most=20))
    ([256, 44], [2, 1, 1])
    """
    most = PIECE_SIZE if most is None else most
    count = total = 0
    for size in sizes:
        if count and (count == PIECE_INPUTS or total + size > most):
            yield count
            count = total = 0
        count += 1
        total += size
    if count:
        yield count


def _titles(title: str | Sequence[str | None] | None, count: int, is_text: bool) -> list[str | None] | None:
    if title is None:
        return None
    if not is_text:
        raise InvalidTask("a title needs texts; token ids are embedded as they are", param="title")
    titles: list[str | None] = [title] * count if isinstance(title, str) else list(title)
    if len(titles) != count:
        raise InvalidTask(f"{len(titles)} titles for {count} texts; give one for all, or one a text", param="title")
    return titles
