"""Encodes requests to the HTTP API, and decodes and validates its answers."""

import base64
import binascii
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Raw, structs

from embergem import errors
from embergem.errors import EmbergemError, TryLater, UnexpectedAnswer, without_input_prefix
from embergem.protocol import (
    Embedding,
    EmbeddingsRequest,
    EmbeddingsResponse,
    ErrorResponse,
    Model,
    ModelList,
    TextRequest,
    TokenizeRequest,
    TokenizeResponse,
)
from embergem.types import Request, Vectors

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A loaded model as its server describes it; the fields are those of `protocol.Model`."""

    id: str
    dimensions: int
    allowed_dimensions: tuple[int, ...]
    max_tokens: int
    tasks: tuple[str, ...]
    dtype: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class RemoteInput:
    """One input as the server's model read it. Servers do not send the tokens before truncation."""

    length: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """The result of one request; an `sdk.backend.EmbeddingResult`.

    Attributes:
        vectors: Float32 array (n, dimensions) in input order.
        truncated: Indices of the truncated inputs.
        tokens: Tokens that the model read, after truncation.
    """

    vectors: Vectors
    truncated: Sequence[int]
    tokens: int

    @property
    def rows(self) -> Sequence[RemoteInput]:
        """The inputs, in order."""
        return [RemoteInput()] * len(self.vectors)

    @staticmethod
    def concatenate(parts: "Sequence[RemoteResult]") -> "RemoteResult":
        """Join the results of the parts of a request, in order."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(len(part.vectors) for part in parts)]).tolist()
        truncated = [start + index for start, part in zip(starts, parts, strict=False) for index in part.truncated]
        return RemoteResult(
            np.concatenate([part.vectors for part in parts]), truncated, sum(part.tokens for part in parts)
        )


def embeddings_body(model: str, request: Request) -> bytes:
    """Encode the body of `POST /v1/embeddings` for a request to `model`.

    Raises:
        InvalidText: A text or title has a lone surrogate, which JSON cannot carry.
        InvalidType: A row of token ids has a value that is no integer.
    """
    return _encode(
        EmbeddingsRequest(
            input=_raw_input(request),
            model=model,
            encoding_format="base64",
            task=request.task,
            title=_raw_titles(request),
            dimensions=request.dimensions,
            truncate_sequence=request.truncate,
        )
    )


def tokenize_body(model: str, request: Request) -> bytes:
    """Encode the body of `POST /v1/tokenize`; raises as `embeddings_body`."""
    return _encode(
        TokenizeRequest(input=_raw_input(request), model=model, task=request.task, title=_raw_titles(request))
    )


def parse_model(content: bytes) -> Model:
    """Parse `GET /v1/models/{name}`."""
    return _decode(content, Model, "the description of an embergem model")


def describe(model: Model) -> ModelDescription:
    """Return the description of a loaded model.

    Raises:
        UnexpectedAnswer: A field is missing that every loaded model has.
    """
    if (
        model.dimensions is None
        or model.allowed_dimensions is None
        or model.max_tokens is None
        or model.tasks is None
        or model.dtype is None
    ):
        raise UnexpectedAnswer(
            f"The server does not describe the model {model.id!r}: its status is {model.status!r}. Check the server's "
            "log, or name another model."
        )
    return ModelDescription(
        id=model.id,
        dimensions=model.dimensions,
        allowed_dimensions=tuple(model.allowed_dimensions),
        max_tokens=model.max_tokens,
        tasks=tuple(model.tasks),
        dtype=model.dtype,
        fingerprint=model.fingerprint,
    )


def parse_model_names(content: bytes) -> list[str]:
    """Parse `GET /v1/models`."""
    return [model.id for model in _decode(content, ModelList, "a list of models").data]


def parse_vectors(content: bytes, count: int, dimensions: int) -> RemoteResult:
    """Parse the answer of `POST /v1/embeddings` to a request with `count` inputs.

    Raises:
        UnexpectedAnswer: The answer does not have exactly `count` finite vectors of size `dimensions`.
    """
    answer = _decode(content, EmbeddingsResponse, "embeddings as base64")
    data = answer.data
    if [item.index for item in data] != list(range(count)):
        raise UnexpectedAnswer(f"The server answered {len(data)} vectors for {count} inputs, or in another order.")
    rows = [_vector_bytes(item, dimensions) for item in data]
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(count, dimensions).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise UnexpectedAnswer("The server's answer has a number that is not finite.")
    return RemoteResult(vectors, [item.index for item in data if item.truncated], answer.usage.prompt_tokens)


def _vector_bytes(item: Embedding, dimensions: int) -> bytes:
    if not isinstance(item.embedding, str):
        raise UnexpectedAnswer(f"Vector {item.index} of the server's answer is a list, not base64.")
    try:
        row = base64.b64decode(item.embedding, validate=True)
    except binascii.Error as error:
        raise UnexpectedAnswer(f"Vector {item.index} of the server's answer is not base64: {error}") from None
    if len(row) != 4 * dimensions:
        raise UnexpectedAnswer(
            f"Vector {item.index} of the server's answer has {len(row)} bytes; "
            f"{dimensions} float32 are {4 * dimensions}."
        )
    return row


def parse_counts(content: bytes, count: int) -> list[int]:
    """Parse the answer of `POST /v1/tokenize` to a request with `count` inputs: tokens of each before truncation."""
    data = _decode(content, TokenizeResponse, "token counts").data
    if [item.index for item in data] != list(range(count)):
        raise UnexpectedAnswer(f"The server answered {len(data)} counts for {count} inputs, or in another order.")
    return [item.count for item in data]


def raise_error(status: int, content: bytes, url: str, retry_after: float | None) -> NoReturn:
    """Raise the error of `embergem.errors` that an answer without success stands for.

    Args:
        status: HTTP status of the answer.
        content: Body of the answer.
        url: Address of the request, for the message.
        retry_after: Seconds in the header `Retry-After`, if any.

    Raises:
        EmbergemError: The class with the answer's `code`, with its message, `param` and `input_index`; for an unknown
            code, a class that fits the status.
        UnexpectedAnswer: The body is not an error of this API.
    """
    try:
        error = msgspec.json.decode(content, type=ErrorResponse).error
    except msgspec.DecodeError:
        start = content[:200].decode(errors="replace")
        raise UnexpectedAnswer(f"{url} answered {status} with a body that is not embergem's: {start!r}") from None
    classes = {kind.code: kind for kind in _subclasses(EmbergemError) if kind is not EmbergemError}
    kind = classes.get(error.code or "") or _CLASSES.get(
        status, UnexpectedAnswer if status >= 500 else errors.InvalidRequest
    )
    index = None if error.input_index is UNSET else error.input_index
    message = error.message if index is None else without_input_prefix(error.message, index)
    if issubclass(kind, TryLater):
        retry_after = 1.0 if retry_after is None else retry_after
        raise kind(message, param=error.param, input_index=index, retry_after=retry_after)
    raise kind(message, param=error.param, input_index=index)


_CLASSES: dict[int, type[EmbergemError]] = {404: errors.UnknownModel}


def _subclasses(kind: type[EmbergemError]) -> list[type[EmbergemError]]:
    # Subclasses first: if a class and its base have the same code, the base must overwrite the subclass.
    return [found for child in kind.__subclasses__() for found in _subclasses(child)] + [kind]


def _decode(content: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        start = content[:100].decode(errors="replace")
        raise UnexpectedAnswer(f"The server's answer is not {what} ({error}): {start!r}") from None


def _encode(body: TextRequest) -> bytes:
    return msgspec.json.encode({name: value for name, value in structs.asdict(body).items() if value is not None})


def _raw_input(request: Request) -> Raw:
    if request.texts is not None:
        return _raw_strings(request.texts, "text")
    return Raw(msgspec.json.encode([_id_list(index, row) for index, row in enumerate(request.ids or ())]))


def _id_list(index: int, row: Sequence[int]) -> list[int]:
    """Return a row of token ids as a list; the checks and messages are those of the engine."""
    if isinstance(row, bytes | bytearray):
        raise _invalid_row(index, f"is of type {type(row).__name__}; it must be a list of token ids.")
    if isinstance(row, np.ndarray) and row.ndim != 1:
        raise _invalid_row(index, f"has {row.ndim} dimensions; a list of token ids has one.")
    ids: list[int] = row.tolist() if isinstance(row, np.ndarray) else list(row)
    if set(map(type, ids)) <= {int}:
        return ids
    for position, value in enumerate(ids):
        if isinstance(value, bool) or not hasattr(value, "__index__"):  # NumPy's integers have it
            raise _invalid_row(
                index, f"has a value of type {type(value).__name__} at position {position}; token ids are integers."
            )
    return list(map(operator.index, ids))


def _invalid_row(index: int, statement: str) -> errors.InvalidType:
    return errors.InvalidType(statement, param="input", input_index=index)


def _raw_titles(request: Request) -> Raw:
    titles: Any = None if request.titles is None else _raw_strings(request.titles, "title")
    raw: Raw = titles  # the field is declared as `Raw` only; see `TextRequest.title`
    return raw


def _raw_strings(strings: Sequence[str | None], what: str) -> Raw:
    try:
        return Raw(msgspec.json.encode(list(strings)))
    except UnicodeEncodeError:
        for index, string in enumerate(strings):
            try:
                (string or "").encode()
            except UnicodeEncodeError as error:
                raise errors.InvalidText(
                    f"has a lone surrogate at character {error.start} of its {what}, so the {what} is not Unicode. "
                    'Decode it with errors="replace", or remove the character.',
                    param="input",
                    input_index=index,
                ) from None
        raise
