"""Writes files that are either complete or not there, whenever the process or the machine stops.

A file is written under a temporary name, flushed to the disk, renamed, and its directory is flushed. A file that grows
has a size on record, up to which its bytes are on the disk.
"""

import errno
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filelock import FileLock


class ChecksumFile:
    """A file that is open for writing, with the number of bytes and, with `checksum`, the CRC-32 of what was written.

    It has what NumPy and pyarrow need of a file: `write`, `flush`, `tell`, `close` and `closed`.
    """

    mode = "wb"

    def __init__(self, file: IO[bytes], *, checksum: bool = False) -> None:
        self.size = 0
        self._checksum = checksum
        self.crc = 0
        self._file = file

    def write(self, data: Any) -> int:
        """Append bytes."""
        view = memoryview(data).cast("B")
        self._file.write(view)
        self.size += len(view)
        if self._checksum:
            self.crc = zlib.crc32(view, self.crc)
        return len(view)

    def flush(self) -> None:
        """Pass buffered bytes to the operating system."""
        self._file.flush()

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.size

    def readable(self) -> bool:
        """Return False: the file is written only."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return False: bytes are only appended."""
        return False

    def close(self) -> None:
        """Do nothing: `write_durably` closes the file after it flushed it to the disk."""

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed


def open_new(path: Path) -> IO[bytes]:
    """Open a file for writing, empty. The soak test replaces this function to stop the process after some bytes."""
    return path.open("wb")


@contextmanager
def write_durably(path: Path, *, checksum: bool = False) -> Iterator[ChecksumFile]:
    """Open a temporary file that replaces `path` once the body has ended without an error.

    With `checksum` the file has the CRC-32 of its bytes.

    When the context has ended, the file survives a power cut. After an error there is no temporary file, and a file
    that had the name before is unchanged.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open_new(partial) as file:
            yield ChecksumFile(file, checksum=checksum)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Flush the names of the files in a directory to the disk, where the operating system allows it."""
    if os.name == "nt":  # Windows opens no directories; NTFS writes names in order by itself
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_durably(path: Path, size: int, data: bytes) -> int:
    """Put bytes after the first `size` bytes of a file, and cut what follows; return the new size.

    Bytes after `size` are those of a write that an earlier process did not finish. When this returns, the file survives
    a power cut. After an error the file has its first `size` bytes.

    Raises:
        OSError: The file cannot be written, or has fewer than `size` bytes.
    """
    new = not path.exists()
    with open_new(path) if new else path.open("r+b") as file:
        if file.seek(0, os.SEEK_END) < size:
            raise OSError(errno.EIO, f"it has {file.tell()} bytes, and {size} were written", str(path))
        try:
            file.truncate(size)
            file.seek(size)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                file.truncate(size)
            raise
    if new:
        flush_directory(path.parent)
    return size + len(data)


def lock_directory(directory: Path) -> "FileLock":
    """Create a directory if it does not exist, and lock it until the process ends or the lock is released.

    Another process may delete the directory between the steps here: then they are done again.

    Raises:
        filelock.Timeout: Another process has the lock.
        OSError: The directory cannot be created or written.
    """
    from filelock import FileLock  # only jobs with an output file lock anything

    lock = FileLock(directory / "lock", timeout=0)
    while True:
        directory.mkdir(exist_ok=True)
        try:
            lock.acquire()
        except FileNotFoundError:
            continue
        if (directory / "lock").exists():
            break
        lock.release()
    try:
        flush_directory(directory.parent)
    except BaseException:
        lock.release()
        raise
    return lock
