"""`Database`: an SQLite database whose committed transactions survive a power cut, with a version of its schema.

It is written with a write-ahead log and full synchronisation.
"""

import sqlite3
from pathlib import Path
from typing import ClassVar

from embergem.errors import JobError


class Database:
    """An open database. One thread may write while another one reads. A subclass has the schema and the errors.

    Args:
        path: The database; it is created if it does not exist.

    Attributes:
        version: Version of the schema; a database of a newer version is refused.
        schema: The statements that create the tables which are not there, in an older version too.
        path: As given.
        writer, reader: The connections; `reader` cannot write.

    Raises:
        JobError: It has a newer version, is damaged, or cannot be written.
    """

    version: ClassVar[int]
    schema: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.writer = self._connect()
            version = self.writer.execute("PRAGMA user_version").fetchone()[0]
            if version > self.version:
                raise self.newer(version)
            self.writer.execute("PRAGMA journal_mode=WAL")
            self.writer.execute("PRAGMA synchronous=FULL")
            if version < self.version:
                self.writer.executescript(f"BEGIN IMMEDIATE; {self.schema} PRAGMA user_version={self.version}; COMMIT;")
            self.reader = self._connect()
            self.reader.execute("PRAGMA query_only=ON")
        except sqlite3.Error as error:
            raise self.failure(error) from None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60.0, check_same_thread=False, isolation_level=None)

    def failure(self, error: sqlite3.Error) -> JobError:
        """Return an error of SQLite as an error that says what to do."""
        raise NotImplementedError

    def newer(self, version: int) -> JobError:
        """Return the error for a database of a newer version."""
        raise NotImplementedError

    def transaction(self) -> "_Transaction":
        """Return the context of a transaction, which is rolled back after an error."""
        return _Transaction(self)

    def close(self) -> None:
        """Close the database."""
        self.reader.close()
        self.writer.close()


class _Transaction:
    """A transaction that is rolled back after an error. An error of SQLite becomes that of `Database.failure`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.writer

    def __enter__(self) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._database.failure(error) from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._connection.execute("COMMIT")
                return
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as failure:
            if error is None:
                error = failure
        if isinstance(error, sqlite3.Error):
            raise self._database.failure(error) from None
