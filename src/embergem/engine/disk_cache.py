"""Cache of vectors on disk: an SQLite database that several processes may use at once and that survives a crash.

Each entry has a checksum; a damaged entry is treated as missing. When the file is full, each write deletes a few of the
oldest entries. Reading does not wait for writing, since the reading thread may hold up other requests. A read or write
that fails after the file was opened is logged and otherwise ignored: the vector is computed again.
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

QUERY_KEYS = 500
"""Most keys of one SQL query."""

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
"""The table `size` holds the bytes of all vectors, so the size is known without reading the whole file. Triggers keep
it current, whichever process and version of embergem writes."""


class DiskCache:
    """Vectors by key in the file `path`, up to about `max_bytes` of numbers. Thread-safe.

    Raises:
        UnsupportedOption: The file cannot be opened, or is not a database of this kind.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
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
        """Return the vectors of those keys that the file has."""
        found: dict[bytes, Vectors] = {}
        try:
            for start in range(0, len(keys), QUERY_KEYS):
                chunk = keys[start : start + QUERY_KEYS]
                placeholders = ",".join("?" * len(chunk))
                with self._read_lock:
                    rows = self._reader.execute(
                        f"SELECT key, vector, crc FROM vectors WHERE key IN ({placeholders})", chunk
                    ).fetchall()
                for key, vector, crc in rows:
                    if zlib.crc32(vector, zlib.crc32(key)) == crc:
                        found[key] = np.frombuffer(vector, dtype=np.float32)
                    else:
                        log.warning("%s: an entry is damaged; its vector is computed again", self._path)
        except sqlite3.Error as error:
            log.warning("%s cannot be read: %s", self._path, error)
        return found

    def put(self, entries: Iterable[tuple[bytes, Vectors]]) -> None:
        """Write vectors, all or none of them."""
        rows = [(key, blob, zlib.crc32(blob, zlib.crc32(key))) for key, vector in entries if (blob := vector.tobytes())]
        try:
            with self._write_lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    self._connection.executemany(
                        "INSERT INTO vectors (key, vector, crc) VALUES (?, ?, ?) "
                        "ON CONFLICT (key) DO UPDATE SET vector = excluded.vector, crc = excluded.crc",
                        rows,
                    )
                    self._evict(len(rows) + QUERY_KEYS)
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            log.warning("%s cannot be written: %s", self._path, error)

    def close(self) -> None:
        """Close the file."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._connection.close()

    def _evict(self, most: int) -> None:
        """Delete the oldest entries beyond the size limit, but at most `most`; later writes delete the others."""
        [(size,)] = self._connection.execute("SELECT bytes FROM size")
        last_evicted = None
        for number, length in self._connection.execute(
            "SELECT number, length(vector) FROM vectors ORDER BY number LIMIT ?", (most,)
        ):
            if size <= self._max_bytes:
                break
            last_evicted, size = number, size - length
        if last_evicted is not None:
            self._connection.execute("DELETE FROM vectors WHERE number <= ?", (last_evicted,))
