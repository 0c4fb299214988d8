"""`BatchStore`: the directory of the files and batches of a server.

The directory has an SQLite database with one row a file and a batch, a file that is locked as long as the process
lives, and below `files` the contents, each under the id of its file. Results grow in place. The row of the batch has
the sizes up to which they are valid, so a line of the input has one answer, whenever the process or the machine stops.
"""

import asyncio
import logging
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
from filelock import Timeout

from embergem.batch_protocol import BatchError, Status
from embergem.bulk.durable_files import append_durably, lock_directory
from embergem.errors import JobError, UnsupportedOption
from embergem.server.batches.batch_index import BatchIndex
from embergem.server.batches.batch_records import (
    RESULTS_LOST,
    BatchFinished,
    BatchRecord,
    FileInUse,
    FileRecord,
    OwnerLimits,
    Page,
    QuotaExceeded,
    ResultsLost,
    StorageFailed,
    StorageFull,
    UnknownBatch,
    UnknownFile,
    storage_errors,
    storage_full,
)

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("embergem.server")

DISK_THREADS = 8
"""Threads that wait for the disk. Other work of the server has threads of its own, so a slow disk does not delay it."""

MAX_FILES = 10_000
"""Most files of one owner; a batch may make two."""

MAX_BATCHES = 10_000
"""Batches of one owner that are kept; older ones are forgotten once they are finished."""

SPARE_BYTES = 16 * 2**20
"""Bytes of the disk that uploads and results leave free. The database needs some to delete a file or cancel a batch."""

_CONTENT = re.compile(r"file-[0-9a-f]{32}|\.file-[0-9a-f]{32}\.partial")
"""Names of contents. Nothing else is deleted."""


class BatchStore:
    """Files and batches on the disk. Thread-safe; every method may wait for the disk.

    Args:
        directory: The directory; it is created if its parent exists.

    Attributes:
        directory: As given.
        unfinished: The batches that have work left, by id, oldest first.

    Raises:
        UnsupportedOption: Another server uses the directory, or it cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = directory / "files"
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            self._lock_file = lock_directory(directory)
        except Timeout:
            raise UnsupportedOption(
                f"Another server uses {directory}. Stop it, or name another directory with --batch-path.",
                param="batch_path",
            ) from None
        except OSError as error:
            raise UnsupportedOption(
                f"The directory {directory} cannot be used: {error.strerror}. Create its parent, correct its "
                "permissions, or name another directory with --batch-path.",
                param="batch_path",
            ) from None
        self._threads = ThreadPoolExecutor(DISK_THREADS, "batches")
        self._lock = threading.RLock()  # held while the disk is written; the event loop must not take it
        self._counting = threading.RLock()
        self._used: dict[str, list[int]] = {}  # bytes, uploads in progress and unfinished results included, and files
        self.unfinished: dict[str, BatchRecord] = {}
        try:
            self._files.mkdir(mode=0o700, exist_ok=True)
            self._open()
        except (JobError, OSError, sqlite3.Error, msgspec.DecodeError) as error:
            self._lock_file.release()
            reason = error.message if isinstance(error, JobError) else f"{directory} cannot be used: {error}."
            way = "Restore the directory from a backup"
            if isinstance(error, StorageFull):
                reason, way = f"The disk of {directory} is full.", "Free some space"
            raise UnsupportedOption(
                f"{reason} {way}, or name another one with --batch-path.", param="batch_path"
            ) from None

    def _open(self) -> None:
        """Open the database, read what is there, and delete contents of uploads that were not complete."""
        path = self.directory / "index.sqlite"
        contents = list(self._files.iterdir())
        if contents and not path.exists():  # a directory of somebody else, or the database was lost
            raise StorageFailed(
                f"The directory {self._files} has files, and {path} does not exist, so nothing says whose they are."
            )
        self._index = BatchIndex(path)
        try:
            known = self._load()
        except BaseException:
            self._index.close()
            raise
        for content in contents:
            if content.name not in known and _CONTENT.fullmatch(content.name):
                content.unlink()

    def _load(self) -> set[str]:
        """Read the unfinished batches and what the owners have; return the names of all contents."""
        known = set[str]()
        for name, owner, size in self._index.sizes():
            known.add(name)
            self._count(owner, size, files=1)
        for record in self._index.unfinished():
            self.unfinished[record.id] = record
            known |= {record.output_id, record.error_id}
            self._count(record.owner, record.output_bytes + record.error_bytes)
        return known

    def close(self) -> None:
        """Wait for the work on threads, close the database, and let another server use the directory."""
        self._threads.shutdown()
        with self._lock:
            self._index.close()
        self._lock_file.release()

    async def on_thread(self, work: Callable[P, T], *values: P.args, **options: P.kwargs) -> T:
        """Call a function that may wait for the disk, such as a method of the store, on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *values, **options))

    def path(self, file_id: str) -> Path:
        """Return the path of the content of a file."""
        return self._files / file_id

    def used(self, owner: str) -> int:
        """Return the bytes of an owner's files, with uploads in progress and results of unfinished batches."""
        return self._used.get(owner, (0, 0))[0]

    def totals(self) -> tuple[int, int]:
        """Return the number of all files, and the bytes of all owners."""
        used = list(self._used.values())
        return sum(files for _, files in used), sum(size for size, _ in used)

    # Files

    def reserve(self, owner: str, size: int, limits: OwnerLimits) -> None:
        """Count bytes that are about to be written; give back what is not kept with `release`.

        Raises:
            QuotaExceeded: The owner has too many bytes or files.
            StorageFull: The disk has too little space left.
        """
        self._require_space(size)
        with self._counting:
            used, files = self._used.get(owner, (0, 0))
            if used + size > limits.bytes:
                raise QuotaExceeded(
                    f"Your files have {used:,} bytes, and an API key may have {limits.bytes:,}. Delete files that you "
                    "no longer need."
                )
            if files >= MAX_FILES:
                raise QuotaExceeded(f"You have {files:,} files, the most of an API key. Delete some of them.")
            self._count(owner, size)

    def _require_space(self, size: int) -> None:
        if shutil.disk_usage(self.directory).free < size + SPARE_BYTES:
            raise storage_full()

    def release(self, owner: str, size: int) -> None:
        """Take back a reservation."""
        self._count(owner, -size)

    def add_file(self, record: FileRecord) -> None:
        """Record a file whose content is complete on the disk, and whose bytes were reserved."""
        with self._lock, self._index.transaction():
            self._index.insert_file(record)
        self._count(record.owner, 0, files=1)

    def file(self, file_id: str, owner: str | None) -> FileRecord:
        """Return a file; `owner` None sees the files of all keys.

        Raises:
            UnknownFile: There is none that the owner may see.
        """
        with self._lock:
            record = self._index.file(file_id)
        if record is None or owner not in (None, record.owner):
            raise UnknownFile(f"The file {file_id[:80]!r} does not exist. GET /v1/files lists your files.")
        return record

    def files(self, page: Page) -> tuple[list[FileRecord], bool]:
        """Return one page of files, and whether more follow."""
        with self._lock:
            return self._index.page("files", page, FileRecord)

    def delete_file(self, file_id: str, owner: str | None) -> None:
        """Delete a file.

        Raises:
            UnknownFile: There is none that the owner may see.
            FileInUse: An unfinished batch reads it.
        """
        with self._lock:
            record = self.file(file_id, owner)
            if (user := self._user(file_id)) is not None:
                raise FileInUse(
                    f"The file {file_id} is the input of {user.id}, which is {user.status}. Cancel the batch first, or "
                    "wait until it is finished.",
                    param="file_id",
                )
            self._delete([record])

    def _delete(self, records: list[FileRecord]) -> None:
        try:
            self._index.delete_files(records)
        except StorageFull:  # a deletion needs some space, too: the contents give theirs first
            for record in records:
                with suppress(OSError):
                    self.path(record.id).unlink()
            self._index.delete_files(records)
        for record in records:
            self._count(record.owner, -record.bytes, files=-1)
            with suppress(OSError):  # Windows keeps a file that is being read; the next start deletes it
                self.path(record.id).unlink()

    def _user(self, file_id: str) -> BatchRecord | None:
        return next((batch for batch in self.unfinished.values() if batch.input_file_id == file_id), None)

    # Batches

    def add_batch(self, record: BatchRecord, limits: OwnerLimits) -> None:
        """Record a new batch, whose input file exists.

        Raises:
            QuotaExceeded: The owner has too many unfinished batches, or files.
            UnknownFile: The input file was deleted meanwhile.
        """
        with self._lock:
            self.file(record.input_file_id, None)
            unfinished = [batch for batch in self.unfinished.values() if batch.owner == record.owner]
            if len(unfinished) >= limits.unfinished:
                raise QuotaExceeded(
                    f"You have {len(unfinished)} unfinished batches, the most of an API key. Wait until one is "
                    "finished, or cancel one."
                )
            if self._used.get(record.owner, (0, 0))[1] + 2 * len(unfinished) + 2 > MAX_FILES:
                raise QuotaExceeded(f"You may have {MAX_FILES:,} files, results included. Delete some of them.")
            with self._index.transaction():
                self._index.insert_batch(record, keep=MAX_BATCHES)
            self.unfinished[record.id] = record

    def batch(self, batch_id: str, owner: str | None) -> BatchRecord:
        """Return a batch; `owner` None sees the batches of all keys.

        Raises:
            UnknownBatch: There is none that the owner may see.
        """
        with self._lock:
            record = self._index.batch(batch_id)
        if record is None or owner not in (None, record.owner):
            raise UnknownBatch(f"The batch {batch_id[:80]!r} does not exist. GET /v1/batches lists your batches.")
        return record

    def batches(self, page: Page) -> tuple[list[BatchRecord], bool]:
        """Return one page of batches, and whether more follow."""
        with self._lock:
            return self._index.page("batches", page, BatchRecord)

    def change(self, record: BatchRecord, **fields: Any) -> None:
        """Change fields of an unfinished batch, on the disk and then in `record`."""
        with self._lock:
            changed = msgspec.structs.replace(record, **fields)
            with self._index.transaction():
                self._index.update_batch(changed)
            for name, value in fields.items():
                setattr(record, name, value)

    def advance(self, record: BatchRecord, before: Status, after: Status, now: int, **fields: Any) -> bool:
        """Move a batch from one state to the next; return False if it is in another one, because it was cancelled."""
        with self._lock:
            if record.status != before:
                return False
            self.change(record, status=after, **{f"{after}_at": now}, **fields)
            return True

    def request_cancel(self, batch_id: str, owner: str | None, now: int) -> BatchRecord:
        """Mark a batch as being cancelled, and return it. One that is being cancelled or was cancelled stays as it is.

        Raises:
            UnknownBatch: There is none that the owner may see.
            BatchFinished: The batch is finished.
        """
        with self._lock:
            found = self.batch(batch_id, owner)
            record = self.unfinished.get(batch_id, found)
            if record.status in ("validating", "in_progress"):
                self.change(record, status="cancelling", cancelling_at=now)
            elif record.status not in ("cancelling", "cancelled"):
                raise BatchFinished(f"A batch that is {record.status} cannot be cancelled.", param="batch_id")
            return record

    def append(self, record: BatchRecord, output: bytes, errors: bytes, **fields: Any) -> None:
        """Append results to the files of a batch, and record them with the fields that go with them, all or nothing.

        Raises:
            StorageFull, StorageFailed: They could not be written. The batch is as before.
            ResultsLost: Earlier results are not there any more.
        """
        sizes = {}
        with storage_errors(self.directory):
            if self._lost(record):
                raise ResultsLost
            self._require_space(len(output) + len(errors))
            for name, file_id, data in (
                ("output_bytes", record.output_id, output),
                ("error_bytes", record.error_id, errors),
            ):
                if data:
                    sizes[name] = append_durably(self.path(file_id), getattr(record, name), data)
        with self._lock:
            self.change(record, **sizes, **fields)
            self._count(record.owner, len(output) + len(errors))

    def finish(
        self, record: BatchRecord, before: Status, status: Status, now: int, errors: list[BatchError] | None = None
    ) -> bool:
        """End a batch: its results become files, in the transaction that ends it. Without all results it has failed.

        Return False if its state is not `before`, because it was cancelled.
        """
        with self._lock:
            if record.status != before:
                return False
            self._finish(record, status, now, errors)
        for file_id, size in ((record.output_id, record.output_bytes), (record.error_id, record.error_bytes)):
            if not size:
                self.path(file_id).unlink(missing_ok=True)
        return True

    def _finish(self, record: BatchRecord, status: Status, now: int, errors: list[BatchError] | None) -> None:
        errors = record.errors if errors is None else errors
        if lost := self._lost(record):
            status = "failed" if status == "completed" else status
            errors = [*(error for error in errors if error != RESULTS_LOST), RESULTS_LOST]
        changed = msgspec.structs.replace(record, status=status, errors=errors, **lost, **{f"{status}_at": now})
        results = [
            FileRecord(
                id=file_id,
                owner=record.owner,
                purpose="batch_output",
                filename=f"{record.id}_{name}.jsonl",
                bytes=size,
                created_at=now,
                expires_at=now + record.output_seconds,
            )
            for name, file_id, size in (
                ("output", record.output_id, changed.output_bytes),
                ("error", record.error_id, changed.error_bytes),
            )
            if size
        ]
        with storage_errors(self.directory):
            for result in results:  # a write that was not recorded may have left bytes behind the valid ones
                append_durably(self.path(result.id), result.bytes, b"")
        with self._index.transaction():
            for result in results:
                self._index.insert_file(result)
            self._index.update_batch(changed, ended_at=now)
        size = changed.output_bytes + changed.error_bytes - record.output_bytes - record.error_bytes
        self._count(record.owner, size, files=len(results))
        for field in msgspec.structs.fields(BatchRecord):
            setattr(record, field.name, getattr(changed, field.name))
        del self.unfinished[record.id]

    def _lost(self, record: BatchRecord) -> dict[str, Any]:
        """Return the results that somebody deleted or cut on the disk, as fields of the record with the size 0."""
        lost = {}
        with storage_errors(self.directory):
            for name, file_id in (("output_bytes", record.output_id), ("error_bytes", record.error_id)):
                path = self.path(file_id)
                if (path.stat().st_size if path.exists() else 0) < getattr(record, name):
                    lost[name] = 0
        return lost

    def sweep(self, now: float, retention: float) -> None:
        """Delete the files that have expired and are no input of an unfinished batch, and old finished batches."""
        with self._lock:
            expired = self._index.expired_files(now)
            if deleted := [record for record in expired if self._user(record.id) is None]:
                self._delete(deleted)
                log.info("%d stored files have expired and were deleted.", len(deleted))
            with self._index.transaction():
                self._index.delete_batches(ended_before=now - retention)

    def _count(self, owner: str, size: int, *, files: int = 0) -> None:
        with self._counting:
            counts = self._used.setdefault(owner, [0, 0])
            counts[0] += size
            counts[1] += files
            if counts == [0, 0]:
                del self._used[owner]
