"""What the server keeps of files and batches, the form in which clients see it, and the errors about both."""

import errno
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from embergem.batch_protocol import (
    Batch,
    BatchError,
    BatchErrors,
    BatchUsage,
    FileObject,
    RequestCounts,
    Status,
)
from embergem.errors import EmbergemError, InvalidRequest, JobError

log = logging.getLogger("embergem.server")

UNFINISHED: frozenset[Status] = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
"""States in which a batch has work left."""


class BatchesOff(EmbergemError):
    """The server was started without a directory for files."""

    status = 404
    code = "batches_off"


class UnknownFile(EmbergemError):
    """No file has this id, or another API key has it."""

    status = 404
    code = "file_not_found"


class UnknownBatch(EmbergemError):
    """No batch has this id, or another API key has it."""

    status = 404
    code = "batch_not_found"


class FileTooLarge(EmbergemError):
    """An uploaded file is larger than the server accepts."""

    status = 413
    code = "file_too_large"


class FileInUse(InvalidRequest):
    """The file is the input of an unfinished batch."""

    code = "file_in_use"


class BatchFinished(InvalidRequest):
    """The batch cannot be cancelled any more."""

    code = "batch_finished"


class QuotaExceeded(EmbergemError):
    """The API key has as many files, bytes or unfinished batches as it may have."""

    status = 403
    code = "quota_exceeded"


class StorageFailed(JobError):
    """The directory of the files cannot be written or read."""

    code = "storage_failed"


class StorageFull(StorageFailed):
    """The disk of the files is full."""

    status = 507
    code = "disk_full"


RESULTS_LOST = BatchError(
    "results_lost",
    "Results of the batch were deleted or changed on the disk of the server. Create the batch again.",
)


class ResultsLost(Exception):
    """Results of a batch that were stored are not on the disk any more."""


@contextmanager
def storage_errors(directory: Path) -> Iterator[None]:
    """Turn an error of the operating system into one for clients, without the path, which the log has.

    Raises:
        StorageFull, StorageFailed: Instead of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        log.error("%s cannot be used: %s", error.filename or directory, error.strerror or error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_full() from None
        raise StorageFailed(f"The stored files cannot be used: {error.strerror or error}.") from None


def storage_full() -> StorageFull:
    """Return the error for a disk without space."""
    return StorageFull(
        "The disk of the stored files is full. Delete files, or ask the server's administrator to free some space."
    )


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file.

    Attributes:
        id: "file-" and 32 random hex digits; also its name on the disk.
        owner: Name of the API key that it belongs to; "" on a server without keys.
        purpose: "batch" for uploads, "batch_output" for results.
        filename: The client's name of it.
        bytes: Its size.
        created_at, expires_at: Seconds since 1970.
    """

    id: str
    owner: str
    purpose: str
    filename: str
    bytes: int
    created_at: int
    expires_at: int


class BatchRecord(msgspec.Struct, kw_only=True):
    """A batch, as it is stored. Only `BatchStore` changes the fields.

    Attributes:
        id: "batch_" and 32 random hex digits.
        owner: Name of the API key that it belongs to; "" on a server without keys.
        output_seconds: Time that its results are kept.
        output_id, error_id: Files of the results and of the errors. Clients see them once the batch is finished.
        lines: Lines of the input whose answers are in these files.
        offset: Bytes of the input that these lines have.
        output_bytes, error_bytes: Bytes of both files that are valid.
        total, completed, failed: Numbers of requests.
        tokens: Tokens that the models read.
        spaces: Fingerprint of the vectors of each model, by the model's main name.

    The other fields are those of `embergem.batch_protocol.Batch`.
    """

    id: str
    owner: str
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    output_seconds: int
    created_at: int
    expires_at: int
    output_id: str
    error_id: str
    status: Status = "validating"
    model: str | None = None
    errors: list[BatchError] = []
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    lines: int = 0
    offset: int = 0
    output_bytes: int = 0
    error_bytes: int = 0
    total: int = 0
    completed: int = 0
    failed: int = 0
    tokens: int = 0
    spaces: dict[str, str] = {}

    @property
    def unfinished(self) -> bool:
        """Whether the batch has work left."""
        return self.status in UNFINISHED


class Page(NamedTuple):
    """One page of a list.

    Attributes:
        owner: Name of an API key; None for those of all keys.
        after: Id after which the page begins; None for the first page.
        limit: Most entries.
        ascending: Whether the oldest comes first.
        purpose: Only files with this purpose.
    """

    owner: str | None
    after: str | None = None
    limit: int = 20
    ascending: bool = False
    purpose: str | None = None


class OwnerLimits(NamedTuple):
    """What one API key may have: bytes of all its files, and unfinished batches."""

    bytes: int
    unfinished: int


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess: `prefix` and 128 random bits in hex."""
    return prefix + secrets.token_hex(16)


def describe_file(record: FileRecord, *, with_owner: bool) -> FileObject:
    """Return a file as clients see it."""
    return FileObject(
        id=record.id,
        bytes=record.bytes,
        created_at=record.created_at,
        filename=record.filename,
        purpose="batch" if record.purpose == "batch" else "batch_output",
        expires_at=record.expires_at,
        owner=record.owner if with_owner else UNSET,
    )


def describe_batch(record: BatchRecord, waiting: BatchError | None, *, with_owner: bool) -> Batch:
    """Return a batch as clients see it; `waiting` is what it waits for."""
    finished = not record.unfinished
    errors = [*record.errors, *([waiting] if waiting is not None and not finished else ())]
    return Batch(
        id=record.id,
        endpoint=record.endpoint,
        input_file_id=record.input_file_id,
        completion_window=record.completion_window,
        status=record.status,
        created_at=record.created_at,
        expires_at=record.expires_at,
        model=record.model,
        errors=BatchErrors(errors) if errors else None,
        output_file_id=record.output_id if finished and record.output_bytes else None,
        error_file_id=record.error_id if finished and record.error_bytes else None,
        in_progress_at=record.in_progress_at,
        finalizing_at=record.finalizing_at,
        completed_at=record.completed_at,
        failed_at=record.failed_at,
        expired_at=record.expired_at,
        cancelling_at=record.cancelling_at,
        cancelled_at=record.cancelled_at,
        request_counts=RequestCounts(record.total, record.completed, record.failed),
        usage=BatchUsage(input_tokens=record.tokens, total_tokens=record.tokens),
        metadata=record.metadata,
        owner=record.owner if with_owner else UNSET,
    )
