"""Rows on disk: an SQLite database that several processes may use at once and that survives being killed.

Each row has a checksum: a damaged page is noticed and computed again, never answered. When the file is full the oldest
rows go, a few with each write. Reading never waits for writing: whoever reads may be answering others, too. The store
is a convenience: what goes wrong with it later is logged and costs only time.
"""

import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from embergem.errors import UnsupportedOption
from embergem.types import Vectors

log = logging.getLogger(__name__)

AT_ONCE = 500
"""Keys of one query."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors
    (number INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS size (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO size SELECT 1, coalesce(sum(length(vector)), 0) FROM vectors
    WHERE NOT EXISTS (SELECT 1 FROM size);
CREATE TRIGGER IF NOT EXISTS came AFTER INSERT ON vectors
    BEGIN UPDATE size SET bytes = bytes + length(new.vector); END;
CREATE TRIGGER IF NOT EXISTS went AFTER DELETE ON vectors
    BEGIN UPDATE size SET bytes = bytes - length(old.vector); END;
CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE OF vector ON vectors
    BEGIN UPDATE size SET bytes = bytes - length(old.vector) + length(new.vector); END;
"""
"""`size` says how much there is without reading all of it, whichever process, of whichever version, wrote it."""


class Disk:
    """Vectors by key in the file `path`, up to about `max_bytes` of numbers. Thread-safe.

    Raises:
        UnsupportedOption: The file cannot be opened or is something else.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            if not list(self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changed'")):
                self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            self._reader = sqlite3.connect(path, timeout=0.0, check_same_thread=False, isolation_level=None)
            self._reader.execute("PRAGMA query_only=ON")
        except (OSError, sqlite3.Error) as error:
            raise UnsupportedOption(
                f"{path} cannot be used as a cache: {error}. Name another file, or delete this one", param="cache"
            ) from None

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """Return the vectors that are there."""
        found: dict[bytes, Vectors] = {}
        try:
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                with self._reading:
                    rows = self._reader.execute(
                        f"SELECT key, vector, crc FROM vectors WHERE key IN ({marks})", some
                    ).fetchall()
                for key, vector, crc in rows:
                    if zlib.crc32(vector, zlib.crc32(key)) == crc:
                        found[key] = np.frombuffer(vector, dtype=np.float32)
                    else:
                        log.warning("%s: a damaged row is computed again", self._path)
        except sqlite3.Error as error:
            log.warning("%s cannot be read: %s", self._path, error)
        return found

    def put(self, entries: Iterable[tuple[bytes, Vectors]]) -> None:
        """Keep vectors, all or none of them."""
        rows = [(key, blob, zlib.crc32(blob, zlib.crc32(key))) for key, vector in entries if (blob := vector.tobytes())]
        try:
            with self._writing:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    self._connection.executemany(
                        "INSERT INTO vectors (key, vector, crc) VALUES (?, ?, ?) "
                        "ON CONFLICT (key) DO UPDATE SET vector = excluded.vector, crc = excluded.crc",
                        rows,
                    )
                    self._make_room(len(rows) + AT_ONCE)
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            log.warning("%s cannot be written: %s", self._path, error)

    def close(self) -> None:
        """Close the file."""
        with self._writing, self._reading:
            self._reader.close()
            self._connection.close()

    def _make_room(self, most: int) -> None:
        """Delete the oldest rows that are too many, and at most so many: the next writes do what is left over."""
        [(size,)] = self._connection.execute("SELECT bytes FROM size")
        last = None
        for number, length in self._connection.execute(
            "SELECT number, length(vector) FROM vectors ORDER BY number LIMIT ?", (most,)
        ):
            if size <= self._max_bytes:
                break
            last, size = number, size - length
        if last is not None:
            self._connection.execute("DELETE FROM vectors WHERE number <= ?", (last,))
