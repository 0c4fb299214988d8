"""Files and batches of the HTTP API as structs, in the form of OpenAI's API."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

RETENTION = (3600, 30 * 24 * 3600)
"""Least and most seconds of `expires_after` and `output_expires_after`."""

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]


class ExpiresAfter(msgspec.Struct, frozen=True):
    """When a file is deleted: `seconds` after its creation, from one hour to 30 days."""

    seconds: Annotated[int, Meta(ge=RETENTION[0], le=RETENTION[1])]
    anchor: Literal["created_at"] = "created_at"


class FileUpload(msgspec.Struct, frozen=True):
    """Fields of the form of `POST /v1/files`. `expires_after` is sent as the two fields that are named here."""

    file: Annotated[str, Meta(description="One JSON object a line.", extra_json_schema={"format": "binary"})]
    purpose: Annotated[Literal["batch"], Meta(description="What the file is for. Only `batch` is possible.")]
    expires_anchor: Literal["created_at"] | UnsetType = msgspec.field(default=UNSET, name="expires_after[anchor]")
    expires_seconds: Annotated[int, Meta(ge=RETENTION[0], le=RETENTION[1])] | UnsetType = msgspec.field(
        default=UNSET, name="expires_after[seconds]"
    )


class FileObject(msgspec.Struct, frozen=True):
    """A stored file. `owner`, the name of the API key that it belongs to, is shown to admin keys only."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    expires_at: int | None = None
    status: Literal["processed"] = "processed"
    status_details: str | None = None
    object: Literal["file"] = "file"
    owner: str | UnsetType = UNSET


class FileList(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/files`. If `has_more`, the next page is `after` the `last_id`."""

    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class DeletedFile(msgspec.Struct, frozen=True):
    """Answer of `DELETE /v1/files/{file_id}`."""

    id: str
    deleted: bool = True
    object: Literal["file"] = "file"


class CreateBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/batches`."""

    input_file_id: Annotated[
        str, Meta(description="Id of a file whose lines are requests: `custom_id`, `method`, `url` and `body`.")
    ]
    endpoint: Annotated[Literal["/v1/embeddings"], Meta(description="Path that all requests of the file are for.")]
    completion_window: Annotated[
        Literal["24h"], Meta(description="Time after which the remaining requests are not computed any more.")
    ]
    metadata: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
            Meta(max_length=16, description="Values of your own, which the batch keeps."),
        ]
        | None
    ) = None
    output_expires_after: Annotated[
        ExpiresAfter | None, Meta(description="When the files of the results are deleted.")
    ] = None


class BatchError(msgspec.Struct, frozen=True):
    """Why a batch failed, or what an unfinished batch waits for; `line` is the line of the input file, from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(msgspec.Struct, frozen=True):
    """The errors of a batch."""

    data: list[BatchError]
    object: Literal["list"] = "list"


class RequestCounts(msgspec.Struct, frozen=True):
    """Requests of a batch: all of them, and those with a result or with an error."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputTokensDetails(msgspec.Struct, frozen=True):
    """Tokens of the inputs whose vectors came from the cache; always 0, because a repeated run would differ."""

    cached_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """Always 0: vectors are no tokens."""

    reasoning_tokens: int = 0


class BatchUsage(msgspec.Struct, frozen=True):
    """Tokens that the models read for a batch."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch. `owner`, the name of the API key that it belongs to, is shown to admin keys only."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    created_at: int
    expires_at: int
    model: str | None = None
    errors: BatchErrors | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: BatchUsage = BatchUsage()
    metadata: dict[str, str] | None = None
    object: Literal["batch"] = "batch"
    owner: str | UnsetType = UNSET


class BatchList(msgspec.Struct, frozen=True):
    """Answer of `GET /v1/batches`. If `has_more`, the next page is `after` the `last_id`."""

    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"
