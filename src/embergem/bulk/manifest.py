"""The manifest of a job: an SQLite database with its options, its sources, its finished parts, and its keys.

A part counts only once its row is in the manifest. The manifest is written with a write-ahead log and full
synchronisation, so a part that was committed survives a power cut.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embergem.bulk.blocks import Counts
from embergem.bulk.database import Database
from embergem.bulk.encoder import KEY_BYTES
from embergem.bulk.rows import Position, Problem
from embergem.errors import JobError

VERSION = 2
"""Version of the schema; a job of a newer version is refused."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    number INTEGER PRIMARY KEY, first_row INTEGER NOT NULL, rows INTEGER NOT NULL, end TEXT NOT NULL,
    counts TEXT NOT NULL, vectors_size INTEGER NOT NULL, vectors_crc INTEGER NOT NULL,
    rows_size INTEGER NOT NULL, rows_crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS problems (number INTEGER PRIMARY KEY, problem TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS keys (key BLOB PRIMARY KEY, row INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS part_keys (number INTEGER PRIMARY KEY, keys BLOB NOT NULL, rows BLOB NOT NULL);
"""
"""`job` has the description of the job as JSON values by name. `parts` has the finished parts in order: the rows of the
output, the place in the source after them, and size and CRC-32 of both files. `problems` has the lines of the report.
`keys` has the row of the output whose vector a key has; below zero, -1 minus the row of `reused.vectors`. `part_keys`
has the same of the last parts, as 64-bit numbers, until they are moved to `keys`: a key is a hash, so each new key in
`keys` writes a page."""

INSERT_KEYS = f"""
INSERT OR IGNORE INTO keys SELECT substr(?1, key * {KEY_BYTES} + 1, {KEY_BYTES}), value FROM json_each(?2)
"""
"""Inserts keys, given one after the other as a blob, with their rows as a JSON list. It is one statement, because each
step of a statement waits up to 5 ms for the interpreter if another thread is busy."""

QUERY_KEYS = 500
"""Most keys of one query."""


class PartRecord(msgspec.Struct, frozen=True):
    """A finished part.

    Attributes:
        number: Number of the part, from 0; its files are called after it.
        first_row: Number of its first row in the output.
        rows: Its rows of the output.
        end: The place in the source after its rows.
        counts: Counts of its rows.
        vectors_size, vectors_crc: Bytes and CRC-32 of the file of the vectors.
        rows_size, rows_crc: Bytes and CRC-32 of the file of the other columns.
    """

    number: int
    first_row: int
    rows: int
    end: Position
    counts: Counts
    vectors_size: int
    vectors_crc: int
    rows_size: int
    rows_crc: int


class Manifest(Database):
    """An open manifest. One thread may write while another one reads.

    Args:
        path: The database; it is created if it does not exist.

    Raises:
        JobError: It has a newer version, is damaged, or cannot be written.
    """

    version = VERSION
    schema = SCHEMA

    def failure(self, error: sqlite3.Error) -> JobError:
        """Return an error of SQLite as an error of the job."""
        if "full" in str(error):
            return JobError(disk_full(self.path.parent))
        return JobError(
            f"{self.path} cannot be used: {error}. Check the disk and the permissions, or begin anew with --overwrite."
        )

    def newer(self, version: int) -> JobError:
        """Return the error for a manifest of a newer version."""
        return JobError(
            f"{self.path} has version {version}, and this embergem reads up to version {VERSION}. Continue the job "
            "with the embergem that began it, or begin anew with --overwrite."
        )

    def get(self, name: str) -> Any:
        """Return a value of the description of the job; None if there is none."""
        row = self.reader.execute("SELECT value FROM job WHERE name = ?", (name,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def set(self, **values: Any) -> None:
        """Store values of the description of the job."""
        rows = [(name, msgspec.json.encode(value).decode()) for name, value in values.items()]
        with self.transaction():
            self.writer.executemany("INSERT OR REPLACE INTO job VALUES (?, ?)", rows)

    def commit(
        self, record: PartRecord, problems: Sequence[Problem], keys: Sequence[bytes], rows: Sequence[int]
    ) -> None:
        """Record a finished part, with the problems of its rows and the keys that are new, all or nothing.

        Args:
            record: The part.
            problems: Problems of its rows.
            keys: The new keys, each `KEY_BYTES` long.
            rows: The row of the output of each key.
        """
        encode = msgspec.json.encode
        values = [
            encode(value).decode() if isinstance(value, Position | Counts) else value
            for value in msgspec.structs.astuple(record)
        ]
        with self.transaction():
            self.writer.execute(f"INSERT INTO parts VALUES ({', '.join('?' * len(values))})", values)
            self.writer.executemany(
                "INSERT INTO problems (problem) VALUES (?)", [(encode(problem).decode(),) for problem in problems]
            )
            if keys:
                blobs = (record.number, b"".join(keys), np.array(rows, dtype="<i8").tobytes())
                self.writer.execute("INSERT INTO part_keys VALUES (?, ?, ?)", blobs)

    def move_keys(self, keys: Sequence[bytes], rows: Sequence[int]) -> None:
        """Move the keys of the last parts, which are given, to the table where they can be found."""
        order = np.argsort(np.frombuffer(b"".join(keys), dtype=f"S{KEY_BYTES}"))  # each page is written once
        blob = b"".join([keys[index] for index in order.tolist()])
        with self.transaction():
            self.writer.execute(INSERT_KEYS, (blob, msgspec.json.encode(np.take(rows, order).tolist()).decode()))
            self.writer.execute("DELETE FROM part_keys")

    def add_keys(self, keys: Iterable[tuple[bytes, int]], **values: Any) -> None:
        """Store keys and values of the description, all or nothing."""
        rows = [(name, msgspec.json.encode(value).decode()) for name, value in values.items()]
        with self.transaction():
            self.writer.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", keys)
            self.writer.executemany("INSERT OR REPLACE INTO job VALUES (?, ?)", rows)

    def parts(self) -> Iterator[PartRecord]:
        """Yield the finished parts in order."""
        for row in self.reader.execute("SELECT * FROM parts ORDER BY number"):
            values = list(row)
            values[3] = Position(*msgspec.json.decode(values[3]))
            values[4] = msgspec.json.decode(values[4], type=Counts)
            yield PartRecord(*values)

    def problems(self) -> Iterator[Problem]:
        """Yield the problems in the order of the rows."""
        for (problem,) in self.reader.execute("SELECT problem FROM problems ORDER BY number"):
            yield msgspec.json.decode(problem, type=Problem)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Return the row of each key that is stored, those of the last parts excepted."""
        found: dict[bytes, int] = {}
        for start in range(0, len(keys), QUERY_KEYS):
            part = keys[start : start + QUERY_KEYS]
            found.update(
                self.reader.execute(f"SELECT key, row FROM keys WHERE key IN ({','.join('?' * len(part))})", part)
            )
        return found

    def part_keys(self) -> dict[bytes, int]:
        """Return the keys of the last parts with their rows."""
        found: dict[bytes, int] = {}
        for keys, rows in self.reader.execute("SELECT keys, rows FROM part_keys"):
            parts = [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]
            found.update(zip(parts, np.frombuffer(rows, dtype="<i8").tolist(), strict=True))
        return found

    def key_lists(self) -> Iterator[list[bytes]]:
        """Yield all keys but those of the last parts, in lists."""
        cursor = self.reader.execute("SELECT key FROM keys")
        while rows := cursor.fetchmany(2**16):
            yield [key for (key,) in rows]


def disk_full(directory: Path) -> str:
    """Return the message for a disk without space."""
    return (
        f"The disk of {directory} is full. The finished parts are kept: free some space, and run the same command "
        "again to continue."
    )
