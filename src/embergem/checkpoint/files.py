"""Small helpers over the files of a checkpoint: digests, and JSON with errors that name the file."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from embergem.errors import CorruptCheckpoint


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(data: bytes, where: str | Path) -> Any:
    """Parse JSON; `where` names its origin in errors.

    Raises:
        CorruptCheckpoint: It is not JSON, or not UTF-8.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where} is not valid JSON: {error}. Fetch or save the model again") from error


SETTINGS = 64 << 20
"""Most bytes of a file with settings; those of real models have a few thousand."""


def read_bytes(path: Path, most: int = SETTINGS) -> bytes:
    """Read a file that the checkpoint must have.

    Raises:
        CorruptCheckpoint: It is missing, cannot be read, is no ordinary file, or has more bytes than `most`.
    """
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # reading a pipe would never end
            raise CorruptCheckpoint(f"{path} is not an ordinary file; the model in this directory is not complete")
        if found.st_size > most:
            raise CorruptCheckpoint(f"{path} has {found.st_size:,} bytes; no model needs more than {most:,} there")
        return path.read_bytes()
    except FileNotFoundError:
        raise CorruptCheckpoint(f"{path} is missing; the model in this directory is not complete") from None
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror or error}") from error


def read_object(path: Path, most: int = SETTINGS) -> dict[str, Any]:
    """Read a JSON file of at most `most` bytes that holds an object.

    Raises:
        CorruptCheckpoint: It is missing, unreadable, not JSON, or something other than an object.
    """
    value = parse_json(read_bytes(path, most), path)
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{path} should hold a JSON object, found {type(value).__name__}")
    return value


def read_object_if_there(path: Path) -> dict[str, Any]:
    """Like `read_object`, but an absent file reads as an empty object."""
    return read_object(path) if path.exists() else {}


def shortened(value: Any) -> str:
    """Return the repr of a value for an error message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
