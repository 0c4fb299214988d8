"""The HTTP API as a client sees it: what is sent, and answers checked before anything is believed."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec
import numpy as np

from embergem import errors
from embergem.errors import EmbergemError, TryLater, UnexpectedAnswer
from embergem.types import Request, Vectors

T = TypeVar("T")


class Description(msgspec.Struct):
    """What a server says about a model."""

    id: str
    dimensions: int
    allowed_dimensions: list[int]
    max_tokens: int
    tasks: list[str]
    dtype: str
    fingerprint: str | None = None


class _Status(msgspec.Struct):
    status: str | None = None


class _Named(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Named]


class _Item(msgspec.Struct):
    index: int
    embedding: str
    truncated: bool = False


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Item]
    usage: _Usage | None = None


class _Tokens(msgspec.Struct):
    index: int
    count: int


class _Tokenized(msgspec.Struct):
    data: list[_Tokens]


class _Error(msgspec.Struct):
    message: str
    code: str | None = None
    param: str | None = None


class _Errors(msgspec.Struct):
    error: _Error


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row that a server read: it says whether it was cut, not how long it was."""

    length: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to one request; see `sdk.backend.Answer`. `tokens` is what was read, where the server says it."""

    vectors: Vectors
    truncated: Sequence[int]
    tokens: int | None = None

    @property
    def rows(self) -> Sequence[ReadRow]:
        """One an input."""
        return [ReadRow()] * len(self.vectors)

    @staticmethod
    def joined(parts: "Sequence[Answered]") -> "Answered":
        """Make one answer of those to the parts of a request, in order."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(len(part.vectors) for part in parts)]).tolist()
        cut = [start + index for start, part in zip(starts, parts, strict=False) for index in part.truncated]
        return Answered(np.concatenate([part.vectors for part in parts]), cut)


def body(name: str, request: Request) -> dict[str, Any]:
    """The body of `POST /v1/embeddings` for a request to the model `name`."""
    fields = {
        "model": name,
        "input": _inputs(request),
        "encoding_format": "base64",
        "task": request.task,
        "title": request.titles,
        "dimensions": request.dimensions,
        "truncate_sequence": request.truncate,
    }
    return {key: value for key, value in fields.items() if value is not None}


def count_body(name: str, request: Request) -> dict[str, Any]:
    """The body of `POST /v1/tokenize`."""
    fields = {"model": name, "input": _inputs(request), "task": request.task, "title": request.titles}
    return {key: value for key, value in fields.items() if value is not None}


def encode(fields: dict[str, Any]) -> bytes:
    """A body as JSON.

    Raises:
        InvalidText: A text holds a lone surrogate, which JSON cannot carry.
        TypeError: An input is neither text nor integer.
    """
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError as error:
        raise errors.InvalidText(
            f"a text has a lone surrogate at character {error.start}: it is not valid Unicode", param="input"
        ) from None


def waits(content: bytes) -> bool:
    """Whether the model of `GET /v1/models/{name}` is not loaded yet, so that little can be said of it."""
    return _decode(content, _Status, "the description of an embergem model").status in ("unloaded", "loading")


def describe(content: bytes) -> Description:
    """Parse `GET /v1/models/{name}`."""
    return _decode(content, Description, "the description of an embergem model")


def model_names(content: bytes) -> list[str]:
    """Parse `GET /v1/models`."""
    return [model.id for model in _decode(content, _ModelList, "a list of models").data]


def parse_vectors(content: bytes, truncated: str, count: int, dimensions: int) -> Answered:
    """Parse the answer to a request of `count` inputs for vectors of this size.

    Which inputs were cut stands in the items, or in the header `truncated`: indices with commas between, which ends in
    dots where they are too many for it.

    Raises:
        UnexpectedAnswer: It does not hold exactly these vectors.
    """
    answer = _decode(content, _Embeddings, "embeddings as base64")
    data = answer.data
    if [item.index for item in data] != list(range(count)):
        raise UnexpectedAnswer(f"the server answered {len(data)} vectors for {count} inputs, or in another order")
    try:
        rows = [base64.b64decode(item.embedding, validate=True) for item in data]
    except binascii.Error as error:
        raise UnexpectedAnswer(f"the server's answer is not base64: {error}") from None
    for index, row in enumerate(rows):
        if len(row) != 4 * dimensions:
            raise UnexpectedAnswer(
                f"vector {index} of the server's answer has {len(row)} bytes; {dimensions} float32 are {4 * dimensions}"
            )
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(count, dimensions).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise UnexpectedAnswer("the server's answer holds a number that is not finite")
    named = {int(part) for part in truncated.split(",") if part.isdigit()}
    cut = [item.index for item in data if item.truncated or item.index in named]
    return Answered(vectors, cut, None if answer.usage is None else answer.usage.prompt_tokens)


def parse_counts(content: bytes, count: int) -> list[int]:
    """Parse the answer of `POST /v1/tokenize`."""
    data = _decode(content, _Tokenized, "token counts").data
    if [item.index for item in data] != list(range(count)):
        raise UnexpectedAnswer(f"the server answered {len(data)} counts for {count} inputs, or in another order")
    return [item.count for item in data]


def fail(status: int, content: bytes, url: str, retry_after: float | None) -> NoReturn:
    """Raise the error of our own tree that an answer names, with its message and its `param`."""
    try:
        error = msgspec.json.decode(content, type=_Errors).error
    except msgspec.DecodeError:
        start = content[:200].decode(errors="replace")
        raise UnexpectedAnswer(f"{url} answered {status} and not as embergem does: {start!r}") from None
    known = {kind.code: kind for kind in _tree(EmbergemError) if kind is not EmbergemError}
    kind = known.get(error.code or "") or _KINDS.get(
        status, UnexpectedAnswer if status >= 500 else errors.InvalidRequest
    )
    if issubclass(kind, TryLater):
        raise kind(error.message, param=error.param, retry_after=1.0 if retry_after is None else retry_after)
    raise kind(error.message, param=error.param)


_KINDS: dict[int, type[EmbergemError]] = {404: errors.UnknownModel}


def _tree(kind: type[EmbergemError]) -> list[type[EmbergemError]]:
    # Children first: where a class and its base share a code, the base must win.
    return [found for child in kind.__subclasses__() for found in _tree(child)] + [kind]


def _decode(content: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        start = content[:100].decode(errors="replace")
        raise UnexpectedAnswer(f"the server's answer is not {what} ({error}): {start!r}") from None


def _inputs(request: Request) -> Any:
    if request.texts is not None:
        return list(request.texts)
    return [np.asarray(row).tolist() for row in request.ids or ()]
