"""Reads single files of a checkpoint: digests, bytes up to a limit, and JSON with errors that name the file."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

from embergem.errors import CorruptCheckpoint

SETTINGS_BYTES = 64 << 20
"""Largest file with settings that is read. Those of real models have a few thousand bytes."""


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_json(data: bytes, where: str | Path) -> Any:
    """Parse JSON. `where` names the origin of the data in errors.

    Raises:
        CorruptCheckpoint: The data is not JSON or not UTF-8.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{where} is not valid JSON: {error}. Download or save the model again.") from error


def read_bytes(path: Path) -> bytes:
    """Read a file that a checkpoint must have.

    Raises:
        CorruptCheckpoint: The file is missing, cannot be read, is no regular file, or is larger than `SETTINGS_BYTES`.
    """
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # reading a pipe would never end
            raise CorruptCheckpoint(
                f"{path} is not a regular file, so the model in this directory is not complete. Replace it by the file."
            )
        if found.st_size > SETTINGS_BYTES:
            raise CorruptCheckpoint(
                f"{path} has {found.st_size:,} bytes, and no model needs more than {SETTINGS_BYTES:,} there. Download "
                "or save the model again."
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise CorruptCheckpoint(
            f"{path} is missing, so the model in this directory is not complete. Download or save the model again."
        ) from None
    except OSError as error:
        raise CorruptCheckpoint(f"{path} cannot be read: {error.strerror or error}.") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        CorruptCheckpoint: The file is missing or unreadable, or it holds something other than a JSON object.
    """
    value = parse_json(read_bytes(path), path)
    if not isinstance(value, dict):
        raise CorruptCheckpoint(
            f"{path} should hold a JSON object, found {type(value).__name__}. Download or save the model again."
        )
    return value


def shortened(value: Any) -> str:
    """Return the repr of a value for an error message, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
