"""The HTTP API as structs: the server validates and describes requests with them, and the client reads answers."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

Encoding = Literal["float", "base64"]
Dtype = Literal["float32", "float16", "int8", "binary"]

_INPUT_SCHEMA = {
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
        description="A text, a list of texts, a list of token ids, or a list of lists of token ids. The model reads "
        "token ids as they are; no special tokens are added.",
        extra_json_schema=_INPUT_SCHEMA,
    ),
]
ModelName = Annotated[
    str | None,
    Meta(
        description="`default` (also for null), the id or an alias of a model, or one of these with a task: "
        "`default:query`."
    ),
]
Task = Annotated[
    str | None, Meta(description="Put the model's prompt for this task around each text; `/v1/models` lists tasks.")
]
ShortText = Annotated[str, Meta(max_length=4096)]
_TITLE_SCHEMA = {"type": "string", "maxLength": 4096}
_TITLES_SCHEMA = {"type": "array", "items": {"anyOf": [_TITLE_SCHEMA, {"type": "null"}]}}
Title = Annotated[
    Raw,
    Meta(
        description="For a task that takes a title, such as `document`: one title for all inputs, or a list with one "
        "title (or null) an input.",
        extra_json_schema={"anyOf": [_TITLE_SCHEMA, _TITLES_SCHEMA, {"type": "null"}]},
    ),
]
Dimensions = Annotated[
    int | Annotated[float, Meta(multiple_of=1)] | None,
    Meta(description="Cut vectors to this size (Matryoshka); one of the model's `allowed_dimensions`."),
]
Prompt = Annotated[
    ShortText | None,
    Meta(
        description="Put this text before each input, verbatim, instead of a task's prompt. An empty string means no "
        "prompt, even where the server or the API key has a default task."
    ),
]


class TextRequest(msgspec.Struct, kw_only=True):
    """The fields that embedding and tokenizing share: the inputs, the model, and the prompt around each text.

    `input` and `title` stay raw JSON, because the server limits the number of entries before it builds them.
    """

    input: Input
    model: ModelName = "default"
    task: Task = None
    title: Title = None  # type: ignore[assignment]  # msgspec would decode `Raw | None` as null only
    prompt: Prompt = None

    def __post_init__(self) -> None:
        """Replace a raw `null` title by None."""
        if self.title is not None and bytes(self.title) == b"null":
            self.title = None  # type: ignore[assignment]


class TokenizeRequest(TextRequest, kw_only=True):
    """Body of `POST /v1/tokenize`."""

    return_tokens: Annotated[
        bool | None,
        Meta(
            description="Also return each text with its prompt, and all its tokens with their positions in it; for at "
            "most 65,536 characters of texts and titles."
        ),
    ] = None


class EmbeddingsRequest(TextRequest, kw_only=True):
    """Body of `POST /v1/embeddings`."""

    encoding_format: Annotated[
        Encoding | None, Meta(description="`float` (a list of numbers, the default) or `base64` (little-endian bytes).")
    ] = None
    dimensions: Dimensions = None
    user: Annotated[str | None, Meta(description="Accepted for compatibility with OpenAI, and not used.")] = None
    truncate_sequence: Annotated[
        bool | None, Meta(description="Cut inputs over the model's limit instead of refusing them.")
    ] = None
    encoding_dtype: Annotated[
        Dtype | None,
        Meta(
            description="Type of the numbers: `float32` (the default); `float16`; `int8`, each vector scaled so that "
            "its largest number becomes ±127; `binary`, one bit a number, eight to a byte, the first in the highest "
            "bit."
        ),
    ] = None


class Usage(msgspec.Struct):
    """Tokens that the model read, special tokens and prompt included, after truncation."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct):
    """One vector, the number of tokens that the model read for it, and whether its input was truncated."""

    index: int
    embedding: list[float] | str
    tokens: int
    truncated: bool
    object: Literal["embedding"] = "embedding"


class EmbeddingsResponse(msgspec.Struct):
    """Answer of `POST /v1/embeddings`; `model` is the name in the request."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: Literal["list"] = "list"


class Token(msgspec.Struct):
    """One token of a text with its prompt.

    `token` is the entry of the vocabulary. `start` and `end` are positions in the text in Unicode characters, null for
    the special tokens around it. `kept` says whether the model reads the token: it does not read tokens that are cut.
    """

    id: int
    token: str
    start: int | None
    end: int | None
    kept: bool


class TokenizedInput(msgspec.Struct):
    """Token ids that the model reads of one input; `count` is their number before truncation.

    With `return_tokens`, `text` is the input with its prompt, and `tokens` are its tokens before truncation.
    """

    index: int
    ids: list[int]
    count: int
    truncated: bool
    text: str | UnsetType = UNSET
    tokens: list[Token] | UnsetType = UNSET


class TokenizeResponse(msgspec.Struct):
    """Answer of `POST /v1/tokenize`; `max_tokens` is the model's limit for one input."""

    data: list[TokenizedInput]
    model: str
    max_tokens: int
    object: Literal["list"] = "list"


class Model(msgspec.Struct):
    """One entry of `GET /v1/models`; the fields from `status` on are embergem's own.

    A field is null where the model is not loaded yet or an upstream server has it. `root` is the model's main name, and
    `aliases` are its other names. `tasks` are all tasks of the model: the name `ID:TASK` selects the model and a task.
    `task` is the task that this name selects. `prompts` has the prompt of each task, with `{content}` for the text and,
    where the task takes a title, `{title}`.
    """

    id: str
    created: int
    root: str
    status: Literal["loaded", "unloaded", "loading", "failed", "upstream"]
    aliases: list[str] = []
    dimensions: int | None = None
    allowed_dimensions: list[int] | None = None
    max_tokens: int | None = None
    tasks: list[str] | None = None
    task: str | None = None
    dtype: str | None = None
    fingerprint: str | None = None
    reason: str | None = None
    prompts: dict[str, str] | None = None
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
    """Answer of `GET /ready`: the state of each model, and the reason for each that failed."""

    status: Literal["ready", "loading", "failed"]
    models: dict[str, str]
    reasons: dict[str, str] = {}


class ModelStats(msgspec.Struct):
    """Counters of a loaded model since its load, and gauges of this moment.

    `tokens` are those of all accepted requests, `batch_tokens` those that were computed in `batches` of at most
    `batch_limit`; the others were cached. `queue_tokens` wait in both lanes.
    """

    id: str
    requests: int
    inputs: int
    tokens: int
    batch_tokens: int
    batches: int
    batch_limit: int
    cache_hits: int
    cache_misses: int
    queue_tokens: int
    errors: int
    weight_bytes: int


class Latency(msgspec.Struct):
    """Times of the responses of `/v1/embeddings`: `counts[i]` took at most `bounds[i]` seconds, the last more."""

    bounds: list[float]
    counts: list[int]
    seconds: float


class ServerStats(msgspec.Struct):
    """Answer of `GET /v1/stats`. Rates follow from two answers: the difference of a counter by that of `uptime`.

    `uptime` is in seconds. `memory_bytes` is the resident memory of the server, null where the system does not tell it.
    `connections` is null where another server runs the application.
    """

    uptime: float
    in_flight: int
    connections: int | None
    memory_bytes: int | None
    queued_bytes: int
    cache_bytes: int
    latency: Latency
    models: list[ModelStats]


class Root(msgspec.Struct):
    """Answer of `GET /`."""

    version: str
    name: str = "embergem"
    embeddings: str = "/v1/embeddings"
    docs: str = "/docs"


class ErrorBody(msgspec.Struct):
    """An error in the shape that OpenAI's clients read.

    `input_index` is the place of the input at fault in `input`, from 0; it is absent where no single input is at fault.
    Only `message` is required, so that a client can read the errors of a proxy in front of the server.
    """

    message: str
    type: str = "server_error"
    param: str | None = None
    code: str | None = None
    input_index: Annotated[int, Meta(ge=0)] | UnsetType = UNSET


class ErrorResponse(msgspec.Struct):
    """Body of every answer that is not a success."""

    error: ErrorBody


class Forwarded(msgspec.Struct):
    """Body of a request that the server sends on to an upstream server; all fields but `model` pass unread."""

    model: str


class ModelRequest(msgspec.Struct):
    """Body of `POST /v1/models/load`, `unload`, `reload` and `status`."""

    model_id: Annotated[str, Meta(description="Id or alias of a model, or `default`.")]


class ModelAnswer(msgspec.Struct, omit_defaults=True):
    """State of a model after the operation; `error` says why the operation failed."""

    model_id: str
    status: Literal["loaded", "unloaded", "reloading", "not_found", "internal_error"]
    error: ErrorBody | None = None
