"""Output format of a Lance dataset, which is a directory. It needs the package pylance."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from embergem.bulk.arrow_writers import ArrowFormat, regroup, with_metadata
from embergem.bulk.durable_files import flush_directory
from embergem.bulk.writers import Describe, FinishedPart
from embergem.errors import JobError
from embergem.integrations import missing_package

try:
    import lance
    from lance.fragment import write_fragments
except ImportError as error:
    raise missing_package("pylance", "lance") from error


class LanceFormat(ArrowFormat):
    """Lance dataset: rows and metadata are those of a Parquet output. The names of its files are random.

    A new dataset is written beside its place, flushed and renamed. An old dataset is deleted just before that. Rows to
    append become new files of the dataset, so that its older versions and its indices stay: the files are flushed, then
    one version of the dataset adds them, and the next one has the new metadata.
    """

    def assemble(
        self,
        parts: Iterator[FinishedPart],
        output: Path,
        describe: Describe,
        *,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the dataset, or append to it; see `OutputFormat`."""
        description = describe()
        schema = with_metadata(self.schema, description)
        batches = (
            batch
            for table in regroup(self.tables(parts))
            for batch in table.replace_schema_metadata(schema.metadata).to_batches()
        )
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        if before is None:
            self._create(reader, output)
        else:
            self._append(reader, output, before["rows"], description["rows"])
            metadata = {name.decode(): value.decode() for name, value in schema.metadata.items()}
            lance.dataset(str(output)).update_schema_metadata(metadata, replace=True)
            _flush(output)

    def _create(self, reader: Any, output: Path) -> None:
        partial = output.with_name(f".{output.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            lance.write_dataset(reader, str(partial))
            _flush(partial)
            shutil.rmtree(output, ignore_errors=True)
            os.replace(partial, output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        flush_directory(output.absolute().parent)

    def _append(self, reader: Any, output: Path, rows: int, total: int) -> None:
        """Append rows to a dataset of `rows` rows, unless an interrupted assembly did so already.

        Raises:
            JobError: Another program has changed the rows.
        """
        dataset = lance.dataset(str(output))
        found = dataset.count_rows()
        if found == total:
            return
        if found != rows:
            raise _changed(output, found, rows)
        fragments = write_fragments(reader, str(output), mode="append", schema=reader.schema)
        _flush(output)
        lance.LanceDataset.commit(str(output), lance.LanceOperation.Append(fragments), read_version=dataset.version)

    def present_schema(self, output: Path) -> Any:
        """Read the schema; see `ArrowFormat`."""
        try:
            return lance.dataset(str(output)).schema
        except (ValueError, OSError) as error:
            raise JobError(f"{output} is no Lance dataset: {error}. Name another output, or --overwrite.") from None


def _changed(output: Path, found: int, rows: int) -> JobError:
    return JobError(
        f"{output} has {found} rows, and its metadata says {rows}, so another program has changed it. Restore an older "
        "version of the dataset, or write another output."
    )


def _flush(directory: Path) -> None:
    """Flush the files of a directory, and the directories in it, to the disk."""
    for path in [*directory.rglob("*"), directory]:
        if path.is_dir():
            flush_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
