"""Chooses the format of an output by its suffix, and the columns that it has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embergem.bulk.job_options import JobOptions
from embergem.bulk.source import Source
from embergem.bulk.text_readers import TEXT_COLUMN
from embergem.bulk.writers import JsonLinesFormat, NumpyFormat, OutputFormat
from embergem.errors import UnsupportedOption
from embergem.suggestions import did_you_mean

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".npy": "npy",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""Output formats by suffix."""


def make_format(
    output: Path,
    options: JobOptions,
    source: Source,
    space: Mapping[str, Any],
    dtype: np.dtype[Any],
    width: int,
) -> OutputFormat:
    """Return the format of an output, by its suffix.

    Raises:
        UnsupportedOption: The suffix is no format, or an option does not fit the format.
    """
    name = require_format(output)
    if name == "npy":
        return NumpyFormat(options, dtype, width)
    if name == "jsonl":
        return JsonLinesFormat(options, {key: space[key] for key in ("model", "dtype", "fingerprint", "task")})
    from embergem.bulk.arrow_writers import ArrowFileFormat, ParquetFormat

    kind = ParquetFormat if name == "parquet" else ArrowFileFormat
    return kind(options, source.selection.keep, source.types, dtype, width)


def require_format(output: Path) -> str:
    """Return the name of the format of an output.

    Raises:
        UnsupportedOption: The suffix is no format, the directory does not exist, or `output` is a directory.
    """
    suffix = output.suffix.lower()
    name = FORMATS.get(suffix)
    if name is None:
        raise UnsupportedOption(
            f"--output {output}: the format {suffix} is not written.{did_you_mean(suffix, FORMATS)} Use one of "
            f"{', '.join(FORMATS)}.",
            param="output",
        )
    if not output.absolute().parent.is_dir():
        raise UnsupportedOption(
            f"--output {output}: there is no directory {output.parent}. Create it first: mkdir -p {output.parent}",
            param="output",
        )
    if output.is_dir():
        raise UnsupportedOption(f"--output {output} is a directory. Name a file in it.", param="output")
    return name


def keep_columns(options: JobOptions, output: Path | None) -> tuple[str, ...]:
    """Return the columns of the source that the output has, the id among them; JSON lines have the text by default."""
    is_json = output is None or FORMATS.get(output.suffix.lower()) == "jsonl"
    keep = options.keep
    if keep is None:
        keep = (options.column or TEXT_COLUMN,) if is_json else ()
    return tuple(dict.fromkeys([*([options.id] if options.id else []), *keep]))
