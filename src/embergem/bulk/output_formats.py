"""Chooses the format of an output by its suffix, and the columns that it has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embergem.bulk.job_options import JobOptions
from embergem.bulk.source import Source
from embergem.bulk.text_readers import TEXT_COLUMN
from embergem.bulk.writers import JsonLinesFormat, OutputFormat
from embergem.errors import UnsupportedOption
from embergem.suggestions import did_you_mean

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".lance": "lance",
    ".npy": "npy",
    ".jsonl": "json",
    ".ndjson": "json",
    ".txt": "table",
}
"""Output formats by suffix."""

FORMAT_NAMES = tuple(dict.fromkeys(FORMATS.values()))


def make_format(
    name: str,
    options: JobOptions,
    source: Source,
    space: Mapping[str, Any],
    dtype: np.dtype[Any],
    width: int,
) -> OutputFormat:
    """Return the format called `name`, for a job.

    Args:
        name: One of `FORMAT_NAMES`.
        options: What the output has.
        source: The rows; its columns to keep are in the output.
        space: What the vectors are.
        dtype: Type of their numbers.
        width: Numbers of a vector.

    Raises:
        UnsupportedOption: An option does not fit the format.
    """
    keep = source.selection.keep
    if name == "npy":
        from embergem.bulk.numpy_writer import NumpyFormat

        return NumpyFormat(options, dtype, width)
    if name == "json":
        return JsonLinesFormat(options, keep, space)
    if name == "table":
        from embergem.bulk.table_writer import TableFormat

        return TableFormat(options, keep)
    from embergem.bulk.arrow_writers import ArrowFileFormat, ArrowFormat, ParquetFormat

    kind: type[ArrowFormat] = ParquetFormat if name == "parquet" else ArrowFileFormat
    if name == "lance":
        from embergem.bulk.lance_writer import LanceFormat

        kind = LanceFormat
    return kind(options, keep, source.types, dtype, width)


def choose_format(output: Path, chosen: str | None = None) -> str:
    """Return the name of the format of an output: the chosen one, or that of its suffix.

    Raises:
        UnsupportedOption: The suffix is no format, the directory does not exist, or `output` is a directory.
    """
    suffix = output.suffix.lower()
    name = chosen or (FORMATS.get(suffix) if suffix else "json")
    if name is None:
        raise UnsupportedOption(
            f"--output {output}: the format {suffix} is not written.{did_you_mean(suffix, FORMATS)} Use one of "
            f"{', '.join(FORMATS)}, or choose a format with --format.",
            param="output",
        )
    require_file(output, "output", may_be_directory=name == "lance")
    return name


def require_file(path: Path, option: str, *, may_be_directory: bool = False) -> None:
    """Refuse the path of a file to write if its directory does not exist, or if it is a directory itself.

    Raises:
        UnsupportedOption: It is one of these; the message names the option.
    """
    if not path.absolute().parent.is_dir():
        raise UnsupportedOption(
            f"--{option} {path}: there is no directory {path.parent}. Create it first: mkdir -p {path.parent}",
            param=option,
        )
    if path.is_dir() and not may_be_directory:
        raise UnsupportedOption(f"--{option} {path} is a directory. Name a file in it.", param=option)


def keep_columns(options: JobOptions, form: str | None) -> tuple[str, ...]:
    """Return the columns of the source that an output has, the id first. JSON lines and tables have the text.

    Args:
        options: The options of the job.
        form: Name of the format; None is Arrow data in memory.
    """
    keep = options.keep
    if keep is None:
        keep = (options.column or TEXT_COLUMN,) if form in ("json", "table") else ()
    return tuple(dict.fromkeys([*([options.id] if options.id else []), *keep]))
