"""`JobStore`: the directory of a job beside its output, with the manifest and the files of the finished parts.

A job that writes `corpus.parquet` keeps its parts in `corpus.parquet.job` until the output is complete. A part has two
files: its vectors as plain numbers, and its other columns in a form that the output format chooses.
"""

import errno
import queue
import shutil
import sqlite3
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from embergem.bulk.blocks import Counts
from embergem.bulk.durable_files import ChecksumFile, lock_directory, write_durably
from embergem.bulk.key_filter import KeyFilter
from embergem.bulk.manifest import Manifest, PartRecord, disk_full
from embergem.bulk.parts import Part
from embergem.bulk.rows import Position
from embergem.errors import JobError

if TYPE_CHECKING:
    from filelock import FileLock

LAST_KEYS = 2**17
"""Keys of the last parts that are in memory, about 25 MB, before they are moved to a table of the manifest."""

OPEN_FILES = 32
"""Most files of vectors that are open to look up vectors."""

PARTS_WAITING = 1
"""Most parts that wait to be written."""

REUSED = "reused.vectors"
"""File of the vectors of an earlier output."""


def job_directory(output: Path) -> Path:
    """Return the directory of the job that writes `output`."""
    return output.with_name(f"{output.name}.job")


class JobStore:
    """The state of one job on the disk. A second job for the same output is refused as long as this one is open.

    Args:
        output: The output of the job.
        width: Numbers of a stored vector.
        dtype: Their type.

    Attributes:
        directory: The directory of the job.
        manifest: Its manifest.
        records: The finished parts.

    Raises:
        JobError: Another process has the job, or its directory cannot be used.
    """

    def __init__(self, output: Path) -> None:
        self.directory = job_directory(output)
        self._lock = _locked(output, self.directory)
        self.records: list[PartRecord] = []
        self._first_rows: list[int] = []
        self._open: OrderedDict[str, FileIO] = OrderedDict()
        self.row_bytes = 0
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self._has_keys = False
        self._filter = KeyFilter()
        self._last_keys: dict[bytes, int] = {}
        self._manifest_open = False

    def open_manifest(self) -> None:
        """Open the manifest, and delete files of parts that were not committed."""
        self.manifest = Manifest(self.directory / "manifest.sqlite")
        self._manifest_open = True
        self.records = list(self.manifest.parts())
        self._first_rows = [record.first_row for record in self.records]
        self._load_keys()
        known = {name for record in self.records for name in (_vectors(record.number), _rows(record.number))}
        for path in self.directory.iterdir():
            if path.suffix in (".vectors", ".rows", ".partial") and path.name not in known and path.name != REUSED:
                path.unlink()

    def discard(self) -> None:
        """Close the manifest of a job that is not continued, so that `clear` may delete it."""
        if self._manifest_open:
            self.manifest.close()
            self._manifest_open = False
        self.records, self._first_rows = [], []

    def clear(self) -> None:
        """Delete the job's files, to begin anew."""
        for path in self.directory.iterdir():
            if path.name != "lock":
                path.unlink()

    @property
    def position(self) -> Position:
        """The place in the source after the finished parts."""
        return self.records[-1].end if self.records else Position()

    @property
    def rows(self) -> int:
        """Rows of the output in the finished parts."""
        return self.records[-1].first_row + self.records[-1].rows if self.records else 0

    @property
    def counts(self) -> Counts:
        """Counts of the finished parts."""
        counts = Counts()
        for record in self.records:
            counts.add(record.counts)
        return counts

    @property
    def empty(self) -> bool:
        """Whether no vector is on the disk."""
        return not self._has_keys

    def commit(self, part: Part, write_rows: Callable[[ChecksumFile, Part], None]) -> PartRecord:
        """Write a part and record it. When this returns, the part survives a power cut.

        Raises:
            JobError: The disk is full, or cannot be written.
        """
        number, first_row = len(self.records), self.rows
        try:
            with write_durably(self.directory / _vectors(number), checksum=True) as vectors:
                vectors.write(np.ascontiguousarray(part.vectors))
            with write_durably(self.directory / _rows(number), checksum=True) as rows:
                write_rows(rows, part)
        except OSError as error:
            raise_for(error, self.directory)
        record = PartRecord(
            number, first_row, len(part), part.end, part.counts, vectors.size, vectors.crc, rows.size, rows.crc
        )
        keys = [key for row in part.new if (key := part.keys[row]) is not None]  # each has one
        places = [first_row + row for row in part.new]
        self.manifest.commit(record, part.problems, keys, places)
        self._first_rows.append(first_row)
        self.records.append(record)
        self._filter.add(keys)
        self._last_keys.update(zip(keys, places, strict=True))
        self._has_keys = self._has_keys or bool(keys)
        if len(self._last_keys) >= LAST_KEYS:
            self.manifest.move_keys(list(self._last_keys), list(self._last_keys.values()))
            self._last_keys = {}  # a new one: a thread that looks up keys still has the old one
        return record

    def add_reused(self, keys: Iterable[tuple[bytes, int]]) -> None:
        """Store the keys of the vectors in `REUSED`, and that this file is complete."""
        self.manifest.add_keys(keys, reused=True)
        self._load_keys()

    def _load_keys(self) -> None:
        self._filter, self._last_keys = KeyFilter(), self.manifest.part_keys()
        if self._last_keys:
            self._filter.add(list(self._last_keys))
        self._has_keys = bool(self._last_keys)
        for keys in self.manifest.key_lists():
            self._filter.add(keys)
            self._has_keys = True

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, tuple[NDArray[Any], bool]]:
        """Return the stored vectors of keys; see `pipeline.StoredVectors`."""
        last, rest = self._last_keys, []
        places: dict[bytes, int] = {}
        for key in self._filter.possible(keys):
            if (row := last.get(key)) is not None:
                places[key] = row
            else:
                rest.append(key)
        try:
            places |= self.manifest.find(rest)
        except sqlite3.Error as error:
            raise self.manifest.failure(error) from None
        return {key: (self._vector(row), row < 0) for key, row in places.items()}

    def _vector(self, row: int) -> NDArray[Any]:
        if row < 0:
            name, index = REUSED, -1 - row
        else:
            number = bisect_right(self._first_rows, row) - 1
            name, index = _vectors(number), row - self._first_rows[number]
        file = self._open.get(name)
        if file is None:
            file = self._open[name] = (self.directory / name).open("rb", buffering=0)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(name)
        file.seek(index * self.row_bytes)
        return np.frombuffer(file.read(self.row_bytes), dtype=self.dtype)

    def files_of(self, record: PartRecord) -> tuple[Path, Path]:
        """Return the files of the vectors and of the other columns of a part."""
        return self.directory / _vectors(record.number), self.directory / _rows(record.number)

    def close(self, *, delete: bool = False) -> None:
        """Close the job; with `delete`, delete its directory."""
        while self._open:
            self._open.popitem()[1].close()
        self.discard()
        if delete:
            shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.release()


def _vectors(number: int) -> str:
    return f"{number:08}.vectors"


def _rows(number: int) -> str:
    return f"{number:08}.rows"


def _locked(output: Path, directory: Path) -> "FileLock":
    """Create the directory of a job and lock it until the process ends."""
    from filelock import Timeout

    try:
        return lock_directory(directory)
    except Timeout:
        raise JobError(
            f"Another process is writing {output}. Wait until it has ended, or name another output."
        ) from None
    except OSError as error:
        raise_for(error, directory)


def raise_for(error: OSError, directory: Path) -> NoReturn:
    """Raise the `JobError` for a failed write.

    Raises:
        JobError: Always.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise JobError(disk_full(directory)) from None
    raise JobError(
        f"{error.filename or directory} cannot be written: {error.strerror or error}. Check the disk and the "
        "permissions; the finished parts are kept, and the same command continues."
    ) from None


class Committer:
    """Runs a function for each part on a thread of its own, in order. Leaving it as a context waits for the last one.

    Args:
        commit: The function.

    Attributes:
        rows: Rows of all parts that were committed.
    """

    def __init__(self, commit: Callable[[Part], object]) -> None:
        self.rows = 0
        self._commit = commit
        self._parts: queue.Queue[Part | None] = queue.Queue(PARTS_WAITING)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="embergem bulk writer", daemon=True)
        self._thread.start()

    def put(self, part: Part) -> None:
        """Queue a part; raises the error of an earlier one."""
        self.check()
        self._parts.put(part)

    def check(self) -> None:
        """Raise the error of a failed commit."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Wait until all parts are committed; raises the error of one that was not."""
        self._parts.put(None)
        self._thread.join()
        self.check()

    def _run(self) -> None:
        while (part := self._parts.get()) is not None:
            if self._failure is not None:
                continue
            try:
                self._commit(part)
                self.rows += len(part)
            except BaseException as error:  # raised again on the thread of the caller
                self._failure = error
