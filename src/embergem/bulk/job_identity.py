"""What makes a job the same job: the checks before a job is continued, and before its parts become the output."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embergem import __version__
from embergem.bulk.job_options import JobOptions, difference
from embergem.bulk.job_store import JobStore
from embergem.bulk.manifest import PartRecord
from embergem.bulk.source import changed
from embergem.bulk.writers import FinishedPart
from embergem.errors import JobError, UnsupportedOption
from embergem.sdk.backend import Backend

SPACE = {
    "fingerprint": "space",
    "dtype": "arithmetic",
    "dimensions": "number of dimensions",
    "output_dtype": "form",
}
"""Fields of the metadata that two vectors must have in common to be used for each other, each with its name."""


class JobNotBegun(Exception):
    """A job was stopped before its description was complete, so it begins anew."""


def require_same_job(store: JobStore, identity: Mapping[str, Any]) -> None:
    """Refuse to continue another job, or one whose source has changed.

    Args:
        store: The job to continue.
        identity: The description of the new job.

    Raises:
        JobError: It is another job; the message has the first difference.
        InvalidText: A file of the source was changed.
        JobNotBegun: The job has no description.
    """
    before = {name: store.manifest.get(name) for name in identity}
    if before["options"] is None:
        raise JobNotBegun
    reason = difference(before["options"], identity["options"])
    for name, value in identity["model"].items():
        was = before["model"].get(name)
        if reason is None and was != value:
            reason = f"{name} of the model was {was} and is now {value}"
    for name in ("format", "reuse", "append"):
        if reason is None and before[name] != identity[name]:
            reason = f"{name} was {before[name]} and is now {identity[name]}"
    if reason is not None:
        raise JobError(
            f"{store.directory} has an unfinished job that is another one: {reason}. Run the command as it was, or "
            "discard that job with --overwrite."
        )
    old, new = before["sources"], identity["sources"]
    if [state["path"] for state in old] != [state["path"] for state in new]:
        raise JobError(
            f"{store.directory} has an unfinished job of other files: {', '.join(s['path'] for s in old[:3])}. Run "
            "the command as it was, or discard that job with --overwrite."
        )
    for was, now in zip(old, new, strict=True):
        if was != now:
            raise changed(now["path"])
    store.manifest.set(options=identity["options"])  # "stop" may have become another policy


def require_space(path: Path, description: Mapping[str, Any], space: Mapping[str, Any], advice: str) -> None:
    """Refuse an output whose metadata says that its vectors are not comparable with those of a job.

    Raises:
        UnsupportedOption: They are of another space, arithmetic, size or form; the message has both.
    """
    for field, name in SPACE.items():
        if description.get(field) != space[field]:
            raise UnsupportedOption(
                f"{path} has vectors of another {name}: {description.get(field)}, and those of this job have "
                f"{space[field]}. {advice}",
                param="output",
            )


def finished_part(store: JobStore, record: PartRecord, width: int) -> FinishedPart:
    """Return a part of a job for `OutputFormat.assemble`; checks the sums of its files."""
    vectors, rows = store.files_of(record)
    _require_intact(rows, record.rows_size, record.rows_crc)

    def load() -> Any:
        data = vectors.read_bytes()
        if (len(data), zlib.crc32(data)) != (record.vectors_size, record.vectors_crc):
            raise _damaged(vectors)
        return np.frombuffer(data, dtype=store.dtype).reshape(record.rows, width)

    return FinishedPart(record.rows, record.counts.null, load, rows)


def _require_intact(path: Path, size: int, crc: int) -> None:
    found = length = 0
    with path.open("rb") as file:
        while data := file.read(2**22):
            found, length = zlib.crc32(data, found), length + len(data)
    if (length, found) != (size, crc):
        raise _damaged(path)


def _damaged(path: Path) -> JobError:
    return JobError(
        f"{path} is damaged: its checksum is another one than in the manifest. Begin anew with --overwrite."
    )


def describe_space(backend: Backend, options: JobOptions) -> dict[str, Any]:
    """Return what the vectors of a job are, for the metadata of its output.

    Raises:
        InvalidTask: The model has no such task.
    """
    prompt = getattr(backend, "prompt", None)
    return {
        "model": backend.id,
        "dtype": backend.dtype,
        "fingerprint": backend.fingerprint,
        "task": options.task,
        "prompt": prompt(options.task) if prompt is not None and options.task is not None else None,
        "dimensions": options.dimensions or backend.dimensions,
        "output_dtype": options.output_dtype,
        "into": options.into,
        "embergem": __version__,
    }
