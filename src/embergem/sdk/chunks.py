"""Splits requests into chunks of a bounded size, so that a large call is tokenized and computed chunk by chunk."""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from embergem.errors import EmptyInput
from embergem.types import Request

CHUNK_INPUTS = 256
"""Most inputs of a chunk."""

CHUNK_SIZE = 2**18
"""Most characters of text (or token ids) of a chunk; an input that is larger is a chunk of its own."""


def is_one_chunk(request: Request) -> bool:
    """Whether a request has inputs, and they fit into one chunk.

    >>> is_one_chunk(Request(texts=["graphene"])), is_one_chunk(Request(texts=["graphene"] * 300))
    (True, False)
    """
    count = len(request)
    return count == 1 or (1 < count <= CHUNK_INPUTS and request.size <= CHUNK_SIZE)


def split_request(request: Request) -> Iterator[tuple[int, Request]]:
    """Split a request into chunks, in order; each chunk comes with the index of its first input.

    The chunks of a request that needs several are bulk work, so that a query which arrives meanwhile goes first.

    Raises:
        EmptyInput: The request has no inputs.
    """
    inputs = request.texts if request.texts is not None else request.ids
    if not inputs:
        raise EmptyInput("There are no texts. Give at least one; a text may be empty.", param="texts")
    lengths = list(chunk_lengths(len(value) for value in inputs))
    if len(lengths) == 1:
        yield 0, request
        return
    request = replace(request, lane="bulk")
    start = 0
    for length in lengths:
        yield start, slice_request(request, slice(start, start + length))
        start += length


def slice_request(request: Request, which: slice) -> Request:
    """Return the same request for some of its inputs."""
    return replace(
        request,
        texts=request.texts and request.texts[which],
        ids=request.ids and request.ids[which],
        titles=request.titles and request.titles[which],
    )


def chunk_lengths(sizes: Iterable[int], most: int | None = None) -> Iterator[int]:
    """Yield the number of inputs of each chunk, given the size of each input in order.

    A chunk has at most `CHUNK_INPUTS` inputs, whose sizes together are at most `most` (None is `CHUNK_SIZE`). An input
    above `most` is a chunk of its own.

    >>> list(chunk_lengths([10] * 300)), list(chunk_lengths([10, 10, 50, 10], most=20))
    ([256, 44], [2, 1, 1])
    """
    most = CHUNK_SIZE if most is None else most
    count = total = 0
    for size in sizes:
        if count and (count == CHUNK_INPUTS or total + size > most):
            yield count
            count = total = 0
        count += 1
        total += size
    if count:
        yield count
