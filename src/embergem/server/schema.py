"""Requests and answers of the HTTP API as structs: they validate what comes in and describe it."""

import difflib
from collections.abc import Sequence
from typing import Any, Literal, get_args

import msgspec

from embergem.errors import EmptyInput, InvalidRequest

Encoding = Literal["float", "base64"]


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/embeddings`. `input` is a string, strings, token ids, or lists of token ids."""

    input: str | list[Any]
    model: str = "default"
    encoding_format: Encoding | None = None
    dimensions: int | None = None
    user: str | None = None
    truncate_sequence: bool | None = None
    task: str | None = None
    title: str | list[str | None] | None = None

    def texts_or_ids(self) -> tuple[list[str] | None, list[list[int]] | None]:
        """Tell the four forms of `input` apart: (texts, None) or (None, rows of ids)."""
        if isinstance(self.input, str):
            return [self.input], None
        if not self.input:
            raise EmptyInput("input is an empty list; give at least one text or one row of token ids", param="input")
        first = self.input[0]
        if isinstance(first, str):
            return self._all(self.input, str, "input"), None
        if isinstance(first, list):
            rows = self._all(self.input, list, "input")
            return None, [self._all(row, int, f"input[{index}]") for index, row in enumerate(rows)]
        return None, [self._all(self.input, int, "input")]

    @staticmethod
    def _all(values: Sequence[Any], kind: type[Any], place: str) -> list[Any]:
        for index, value in enumerate(values):
            if not isinstance(value, kind) or isinstance(value, bool):
                raise InvalidRequest(
                    f"{place}[{index}] is {msgspec.json.encode(value).decode()[:60]}; input is a string, a list of "
                    "strings, a list of token ids, or a list of lists of token ids, and never a mixture",
                    param="input",
                )
        return list(values)


FIELDS = tuple(field.name for field in msgspec.structs.fields(EmbeddingsRequest))


def parse_embeddings(body: bytes) -> EmbeddingsRequest:
    """Parse and validate a body.

    A field that is almost the name of a known one is refused with the suggestion; other unknown fields are ignored,
    since clients send what other servers know.

    Raises:
        InvalidRequest: With `param` naming the field at fault.
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidRequest('the body must be a JSON object such as {"input": "a text"}')
    for name in fields:
        if name not in FIELDS and (near := difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)):
            raise InvalidRequest(f"the field {name!r} is unknown; did you mean {near[0]!r}?", param=name)
    if "input" not in fields:
        raise InvalidRequest("the field 'input' is missing: give a text, a list of texts, or token ids", param="input")
    try:
        return msgspec.convert(fields, EmbeddingsRequest)
    except msgspec.ValidationError as error:
        raise _explain(error, fields) from None


def _explain(error: msgspec.ValidationError, fields: dict[str, Any]) -> InvalidRequest:
    message = str(error)
    path = message.rsplit("`$.", 1)[-1].rstrip("`") if "`$." in message else ""
    name = path.split("[")[0].split(".")[0]
    if name == "encoding_format":
        choices = " or ".join(repr(choice) for choice in get_args(Encoding))
        return InvalidRequest(f"encoding_format is {fields[name]!r}; it is {choices}", param=name)
    what = message.split(" - at")[0]
    return InvalidRequest(f"{path or 'the body'}: {what}", param=name or None)


class Usage(msgspec.Struct):
    """Tokens the model read, special tokens included, after any cut."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct):
    """One vector: numbers, or base64 of little-endian float32."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingsResponse(msgspec.Struct):
    """Answer of `POST /v1/embeddings`; `model` is the name that was asked for."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: Literal["list"] = "list"


class Model(msgspec.Struct):
    """One entry of `GET /v1/models`; from `dimensions` on, embergem's own fields."""

    id: str
    created: int
    dimensions: int
    allowed_dimensions: list[int]
    max_tokens: int
    tasks: list[str]
    dtype: str
    owned_by: str = "embergem"
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    """Answer of `GET /v1/models`."""

    data: list[Model]
    object: Literal["list"] = "list"


class ErrorBody(msgspec.Struct):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(msgspec.Struct):
    """Body of every answer that is not a success."""

    error: ErrorBody
