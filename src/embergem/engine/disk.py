"""Rows on disk: an SQLite database that several processes may use at once and that survives being killed.

Each row has a checksum: a damaged page is noticed and computed again, never answered. When the file is full the oldest
rows go. The store is a convenience: what goes wrong with it later is logged and costs only time.
"""

import logging
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from embergem.engine.request import Vectors
from embergem.errors import UnsupportedOption

log = logging.getLogger(__name__)

AT_ONCE = 500
"""Keys of one query."""

SPARE = 0.1
"""Share of the room that is freed at once when it is used up, so that this is not done for every row."""


class Disk:
    """Vectors by key in the file `path`, up to about `max_bytes` of numbers. Thread-safe.

    Raises:
        UnsupportedOption: The file cannot be opened or is something else.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors "
                "(number INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, vector BLOB NOT NULL, crc INTEGER NOT NULL)"
            )
            [(self._bytes,)] = self._connection.execute("SELECT coalesce(sum(length(vector)), 0) FROM vectors")
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
                with self._lock:
                    rows = self._connection.execute(
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
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    self._connection.executemany(
                        "INSERT INTO vectors (key, vector, crc) VALUES (?, ?, ?) "
                        "ON CONFLICT (key) DO UPDATE SET vector = excluded.vector, crc = excluded.crc",
                        rows,
                    )
                    self._bytes += sum(len(blob) for _, blob, _ in rows)
                    if self._bytes > self._max_bytes:
                        self._make_room()
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            log.warning("%s cannot be written: %s", self._path, error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _make_room(self) -> None:
        """Delete the oldest rows. Other processes may have written, too, so the size is counted anew."""
        keep = int(self._max_bytes * (1 - SPARE))
        self._connection.execute(
            "DELETE FROM vectors WHERE number <= (SELECT max(number) FROM "
            "(SELECT number, sum(length(vector)) OVER (ORDER BY number DESC) AS behind FROM vectors) WHERE behind > ?)",
            (keep,),
        )
        [(self._bytes,)] = self._connection.execute("SELECT coalesce(sum(length(vector)), 0) FROM vectors")
