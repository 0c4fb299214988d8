"""`BatchIndex`: the database of the files and batches of a server, with its queries.

The schema is a format on the disk, which later versions must be able to read.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from embergem.bulk.database import Database
from embergem.errors import InvalidRequest, JobError
from embergem.server.batches.batch_records import BatchRecord, FileRecord, Page, StorageFailed, storage_full

Record = TypeVar("Record", FileRecord, BatchRecord)

log = logging.getLogger("embergem.server")

SCHEMA = """
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL, expires_at INTEGER NOT NULL, record TEXT NOT NULL);
CREATE INDEX files_by_owner ON files (owner, seq);
CREATE INDEX files_by_expiry ON files (expires_at);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, ended_at INTEGER,
    record TEXT NOT NULL);
CREATE INDEX batches_by_owner ON batches (owner, seq);
CREATE INDEX batches_by_end ON batches (ended_at);
"""
"""`record` is the `FileRecord` or `BatchRecord` as JSON. `ended_at` is null for an unfinished batch. Lists are in the
order of `seq`, because a clock can jump."""


KEPT_PLACES = 10_000
"""Deleted files whose place in the list is remembered."""


class BatchIndex(Database):
    """The tables of files and batches, and errors for clients. Its caller has a lock for all calls."""

    version = 1
    schema = SCHEMA

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._places: dict[str, tuple[int, str]] = {}  # of deleted files: `seq` and owner, for lists that go on there

    def failure(self, error: sqlite3.Error) -> JobError:
        """Return an error of SQLite as an error about the storage; the log has the path."""
        log.error("%s cannot be used: %s", self.path, error)
        return storage_full() if "full" in str(error) else StorageFailed(f"The stored files cannot be used: {error}.")

    def newer(self, version: int) -> JobError:
        """Return the error for a directory of a newer version."""
        return StorageFailed(
            f"{self.path} has version {version}, and this embergem reads up to version {self.version}. Start the "
            "embergem that made it."
        )

    def sizes(self) -> Iterator[tuple[str, str, int]]:
        """Yield id, owner and bytes of each file."""
        yield from self.reader.execute("SELECT id, owner, bytes FROM files")

    def unfinished(self) -> Iterator[BatchRecord]:
        """Yield the batches that have work left, the oldest first."""
        for (text,) in self.reader.execute("SELECT record FROM batches WHERE ended_at IS NULL ORDER BY seq"):
            yield msgspec.json.decode(text, type=BatchRecord)

    def file(self, file_id: str) -> FileRecord | None:
        """Return a file; None if there is none."""
        return self._find("files", file_id, FileRecord)

    def batch(self, batch_id: str) -> BatchRecord | None:
        """Return a batch; None if there is none."""
        return self._find("batches", batch_id, BatchRecord)

    def _find(self, table: str, name: str, kind: type[Record]) -> Record | None:
        with self._reading():
            row = self.reader.execute(f"SELECT record FROM {table} WHERE id = ?", (name,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=kind)

    def expired_files(self, now: float) -> list[FileRecord]:
        """Return the files whose time is over."""
        with self._reading():
            rows = self.reader.execute("SELECT record FROM files WHERE expires_at <= ?", (now,)).fetchall()
        return [msgspec.json.decode(text, type=FileRecord) for (text,) in rows]

    def page(self, table: Literal["files", "batches"], page: Page, kind: type[Record]) -> tuple[list[Record], bool]:
        """Return one page of a list, and whether more follow.

        Raises:
            InvalidRequest: The page begins after an entry that the owner never had.
        """
        conditions: list[str] = ["1"]
        values: list[object] = []
        if page.owner is not None:
            conditions.append("owner = ?")
            values.append(page.owner)
        if page.purpose is not None:
            conditions.append("purpose = ?")
            values.append(page.purpose)
        with self._reading():
            if page.after is not None:
                found = self.reader.execute(f"SELECT seq, owner FROM {table} WHERE id = ?", (page.after,)).fetchone()
                if table == "files":  # a client that deletes what it has read goes on behind it
                    found = found or self._places.get(page.after)
                if found is None or page.owner not in (None, found[1]):
                    raise InvalidRequest(
                        f"after={page.after[:80]!r} is none of your {table}. Begin with the first page.", param="after"
                    )
                conditions.append("seq > ?" if page.ascending else "seq < ?")
                values.append(found[0])
            order = "ASC" if page.ascending else "DESC"
            rows = self.reader.execute(
                f"SELECT record FROM {table} WHERE {' AND '.join(conditions)} ORDER BY seq {order} LIMIT ?",
                (*values, page.limit + 1),
            ).fetchall()
        return [msgspec.json.decode(text, type=kind) for (text,) in rows[: page.limit]], len(rows) > page.limit

    def insert_file(self, record: FileRecord) -> None:
        """Insert a file, inside a transaction."""
        self.writer.execute(
            "INSERT INTO files (id, owner, purpose, bytes, expires_at, record) VALUES (?, ?, ?, ?, ?, ?)",
            (record.id, record.owner, record.purpose, record.bytes, record.expires_at, _text(record)),
        )

    def delete_files(self, records: list[FileRecord]) -> None:
        """Delete files, in a transaction of their own."""
        with self.transaction():
            for record in records:
                found = self.writer.execute("SELECT seq, owner FROM files WHERE id = ?", (record.id,)).fetchone()
                self._places[record.id] = found
                self.writer.execute("DELETE FROM files WHERE id = ?", (record.id,))
        for name in list(self._places)[:-KEPT_PLACES]:
            del self._places[name]

    def insert_batch(self, record: BatchRecord, *, keep: int) -> None:
        """Insert a batch, inside a transaction. Of finished batches of its owner, only the newest `keep` are kept."""
        self.writer.execute(
            "INSERT INTO batches (id, owner, record) VALUES (?, ?, ?)", (record.id, record.owner, _text(record))
        )
        self.writer.execute(
            "DELETE FROM batches WHERE owner = ? AND ended_at IS NOT NULL AND seq <= "
            "(SELECT seq FROM batches WHERE owner = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (record.owner, record.owner, keep),
        )

    def update_batch(self, record: BatchRecord, *, ended_at: int | None = None) -> None:
        """Change a batch, inside a transaction."""
        self.writer.execute(
            "UPDATE batches SET record = ?, ended_at = ? WHERE id = ?", (_text(record), ended_at, record.id)
        )

    def delete_batches(self, *, ended_before: float) -> None:
        """Delete old finished batches, inside a transaction."""
        self.writer.execute("DELETE FROM batches WHERE ended_at <= ?", (ended_before,))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self.failure(error) from None


def _text(record: msgspec.Struct) -> str:
    return msgspec.json.encode(record).decode()
