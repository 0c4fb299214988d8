"""`BatchIndex`: the database of the files and batches of a server.

Separate because the schema is a format on the disk, which later versions must be able to read.
"""

import logging
import sqlite3

from embergem.bulk.database import Database
from embergem.errors import JobError
from embergem.server.batches.batch_records import StorageFailed, storage_full

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


class BatchIndex(Database):
    """The tables of files and batches, and errors for clients."""

    version = 1
    schema = SCHEMA

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
