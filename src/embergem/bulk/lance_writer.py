"""Output format of a Lance dataset, which is a directory. It needs the package pylance."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from embergem.bulk.arrow_writers import ArrowFormat, metadata_of, regroup, with_metadata
from embergem.bulk.durable_files import flush_directory
from embergem.bulk.writers import FinishedPart
from embergem.errors import JobError
from embergem.integrations import missing_package

try:
    import lance
except ImportError as error:
    raise missing_package("pylance", "lance") from error


class LanceFormat(ArrowFormat):
    """Lance dataset: rows and metadata are those of a Parquet output. The names of its files are random.

    The dataset is written beside its place, flushed and renamed. An old dataset is deleted just before that.
    """

    def assemble(
        self, parts: Iterator[FinishedPart], output: Path, description: Mapping[str, Any], *, append: bool = False
    ) -> None:
        """Write the dataset; see `OutputFormat`."""
        partial = output.with_name(f".{output.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        schema = with_metadata(self.schema, description)
        batches = (
            batch
            for table in regroup(self.tables(parts))
            for batch in table.replace_schema_metadata(schema.metadata).to_batches()
        )
        try:
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), str(partial))
            _flush(partial)
            shutil.rmtree(output, ignore_errors=True)
            os.replace(partial, output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        flush_directory(output.absolute().parent)

    def description(self, output: Path) -> dict[str, Any] | None:
        """Read the metadata of the schema; see `OutputFormat`."""
        try:
            return metadata_of(lance.dataset(str(output)).schema)
        except (ValueError, OSError) as error:
            raise JobError(f"{output} is no Lance dataset: {error}. Name another output, or --overwrite.") from None


def _flush(directory: Path) -> None:
    """Flush the files of a directory, and the directories in it, to the disk."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_dir():
            flush_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
