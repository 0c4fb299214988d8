"""Vectors of an earlier output: `import_reused` copies them into a job, so that unchanged texts are not computed again.

A vector is found by the key of its text, the hash of the token ids, which Parquet and Arrow outputs have in a column.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embergem.bulk.arrow_writers import KEY, metadata_of
from embergem.bulk.durable_files import write_durably
from embergem.bulk.job_identity import require_space
from embergem.bulk.job_store import REUSED, JobStore, raise_for
from embergem.errors import JobError, UnsupportedOption
from embergem.integrations import missing_package

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise missing_package("pyarrow", "bulk") from error


def import_reused(store: JobStore, path: Path, space: Mapping[str, Any], width: int) -> None:
    """Copy the vectors of an output into a job that has none yet, all or nothing.

    Args:
        store: The job.
        path: The output: a Parquet or Arrow file of embergem.
        space: What the vectors of the job are.
        width: Numbers of a vector.

    Raises:
        UnsupportedOption: It is no such file, or its vectors are of another space.
        JobError: The disk is full.
    """
    into = require_same_space(path, space)
    try:
        with write_durably(store.directory / REUSED) as file:
            for batch in _batches(path, [KEY, into]):
                file.write(_numbers(batch, into, store.dtype, width))
    except OSError as error:
        raise_for(error, store.directory)
    store.add_reused(_keys(path))


def require_same_space(path: Path, space: Mapping[str, Any]) -> str:
    """Return the column of the vectors of an output, if they are of the space of a job.

    Raises:
        UnsupportedOption: It is no output of embergem, or its vectors are of another space.
    """
    try:
        with _opened(path) as file:
            schema = file.schema_arrow if isinstance(file, pq.ParquetFile) else file.schema
    except (pa.ArrowException, OSError) as error:
        raise UnsupportedOption(
            f"--reuse {path} cannot be read: {error}. Name a Parquet or Arrow file that embergem wrote.", param="reuse"
        ) from None
    description = metadata_of(schema)
    if description is None or KEY not in schema.names:
        raise UnsupportedOption(
            f"--reuse {path} was not written by embergem, so the texts of its vectors are not known. Name a Parquet or "
            "Arrow file that `embergem embed` wrote.",
            param="reuse",
        )
    require_space(path, description, space, "--reuse needs vectors of the same model and options.")
    into: str = description["into"]
    return into


def _opened(path: Path) -> Any:
    if path.suffix.lower() in (".parquet", ".pq"):
        return pq.ParquetFile(path)
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _batches(path: Path, names: list[str]) -> Iterator[Any]:
    with _opened(path) as file:
        if isinstance(file, pq.ParquetFile):
            yield from file.iter_batches(columns=names)
        else:
            for number in range(file.num_record_batches):
                yield file.get_batch(number).select(names)


def _numbers(batch: Any, into: str, dtype: np.dtype[Any], width: int) -> Any:
    """Return the vectors of the rows of a batch; zeros where a row has none."""
    column = batch.column(into)
    numbers = column.values.slice(column.offset * width, len(column) * width)
    vectors = numbers.fill_null(0).to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    if len(vectors) != len(column) * width:
        raise JobError(f"The column {into!r} has vectors of different sizes, so it was not written by embergem.")
    return np.ascontiguousarray(vectors)


def _keys(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the key of each row that has one, with the place of its vector as the manifest stores it."""
    row = 0
    for batch in _batches(path, [KEY]):
        for key in batch.column(KEY).to_pylist():
            if key is not None:
                yield key, -1 - row
            row += 1
