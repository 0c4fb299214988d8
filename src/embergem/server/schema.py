"""Requests and answers of the HTTP API as structs: they validate what comes in, and `openapi` describes them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw

Encoding = Literal["float", "base64"]
Dtype = Literal["float32", "float16", "int8", "binary"]

_FORMS = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        },
    ]
}
Input = Annotated[
    Raw,
    Meta(
        description="A text, texts, a row of token ids, or rows of token ids. Ids are taken verbatim; no special "
        "tokens are added to them.",
        extra_json_schema=_FORMS,
    ),
]
Name = Annotated[
    str,
    Meta(description="`default`, the id or an alias of a model, or one of these with a task: `default:query`."),
]
Task = Annotated[
    str | None, Meta(description="Put the model's prompt for this task around each text; `/v1/models` lists tasks.")
]
Short = Annotated[str, Meta(max_length=4096)]
_TITLE = {"type": "string", "maxLength": 4096}
_TITLES = {"type": "array", "items": {"anyOf": [_TITLE, {"type": "null"}]}}
Title = Annotated[
    Raw,
    Meta(
        description="For a task that takes one, such as `document`: a title for all, or one (or null) an input.",
        extra_json_schema={"anyOf": [_TITLE, _TITLES, {"type": "null"}]},
    ),
]
Prompt = Annotated[
    Short | None,
    Meta(
        description="Put this before each text, verbatim, instead of a task's prompt. Empty: nothing, whatever task "
        "the server or the key has as its default."
    ),
]


class TextRequest(msgspec.Struct, kw_only=True):
    """What is embedded or tokenized: inputs, a model, and what is put around each text.

    `input` and `title` stay as they came until it is known how many entries there may be: see `parse`.
    """

    input: Input
    model: Name = "default"
    task: Task = None
    title: Title = None  # type: ignore[assignment]  # a union with None could be nothing but null
    prompt: Prompt = None

    def __post_init__(self) -> None:
        """Take a null for what it is: as it comes, it is a value like any other."""
        if self.title is not None and bytes(self.title) == b"null":
            self.title = None  # type: ignore[assignment]


class TokenizeRequest(TextRequest, kw_only=True):
    """Body of `POST /v1/tokenize`."""


class EmbeddingsRequest(TextRequest, kw_only=True):
    """Body of `POST /v1/embeddings`."""

    encoding_format: Annotated[
        Encoding | None, Meta(description="`float` (a list of numbers, the default) or `base64` (little-endian bytes).")
    ] = None
    dimensions: Annotated[
        int | None, Meta(description="Cut vectors to this size (Matryoshka); one of the model's `allowed_dimensions`.")
    ] = None
    user: Annotated[str | None, Meta(description="Accepted, as OpenAI does, and not used.")] = None
    truncate_sequence: Annotated[
        bool | None, Meta(description="Cut inputs over the model's limit instead of refusing them.")
    ] = None
    encoding_dtype: Annotated[
        Dtype | None,
        Meta(
            description="What the numbers are: `float32` (the default); `float16`; `int8`, each vector scaled so that "
            "its largest number becomes ±127; `binary`, one bit a number, eight to a byte, the first in the highest."
        ),
    ] = None


class Usage(msgspec.Struct):
    """Tokens the model read, special tokens and prompt included, after any cut."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct):
    """One vector, with how many tokens were read for it and whether its input was cut."""

    index: int
    embedding: list[float] | str
    tokens: int
    truncated: bool
    object: Literal["embedding"] = "embedding"


class EmbeddingsResponse(msgspec.Struct):
    """Answer of `POST /v1/embeddings`; `model` is the name that was asked for."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: Literal["list"] = "list"


class TokenizedInput(msgspec.Struct):
    """Ids that the model reads of one input; `count` is how many it had before any cut."""

    index: int
    ids: list[int]
    count: int
    truncated: bool


class TokenizeResponse(msgspec.Struct):
    """Answer of `POST /v1/tokenize`; `max_tokens` is the model's limit for one input."""

    data: list[TokenizedInput]
    model: str
    max_tokens: int
    object: Literal["list"] = "list"


class Model(msgspec.Struct):
    """One entry of `GET /v1/models`; from `status` on, embergem's own fields.

    What is null is not known before the model is loaded, or is up to the upstream server. `task` is the one that this
    name asks for; `tasks` are all that the model has. `root` is the model's first name.
    """

    id: str
    created: int
    root: str
    status: Literal["loaded", "unloaded", "loading", "failed", "upstream"]
    dimensions: int | None = None
    allowed_dimensions: list[int] | None = None
    max_tokens: int | None = None
    tasks: list[str] | None = None
    task: str | None = None
    dtype: str | None = None
    fingerprint: str | None = None
    reason: str | None = None
    owned_by: str = "embergem"
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    """Answer of `GET /v1/models`."""

    data: list[Model]
    object: Literal["list"] = "list"


class Health(msgspec.Struct):
    """Answer of `GET /health`."""

    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, omit_defaults=True):
    """Answer of `GET /ready`: how each model is, and why those that failed did."""

    status: Literal["ready", "loading", "failed"]
    models: dict[str, str]
    reasons: dict[str, str] = {}


class Root(msgspec.Struct):
    """Answer of `GET /`."""

    version: str
    name: str = "embergem"
    embeddings: str = "/v1/embeddings"
    docs: str = "/docs"


class ErrorBody(msgspec.Struct):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(msgspec.Struct):
    """Body of every answer that is not a success."""

    error: ErrorBody


class Forwarded(msgspec.Struct):
    """What is read of a body that goes on to an upstream server; all other fields pass unread."""

    model: str


class ModelRequest(msgspec.Struct):
    """Body of `POST /v1/models/load` and its siblings."""

    model_id: Annotated[str, Meta(description="Id or alias of a model, or `default`.")]


class ModelAnswer(msgspec.Struct, omit_defaults=True):
    """How a model is after what was asked; `error` says why it is not as it should be."""

    model_id: str
    status: Literal["loaded", "unloaded", "reloading", "not_found", "internal_error"]
    error: ErrorBody | None = None
