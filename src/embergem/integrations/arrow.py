"""Arrow: vectors as a `FixedSizeList<float32>`, which polars, pandas, DuckDB and Parquet read without a copy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.embedder import Embedder
from embergem.integrations import missing_package, task_or_none
from embergem.keywords import checked_keywords
from embergem.sdk.inputs import Title

try:
    import pyarrow as pa
except ImportError as error:
    raise missing_package("pyarrow", "arrow") from error


@checked_keywords
def to_arrow(vectors: NDArray[Any]) -> Any:
    """Return vectors (n, d) as an Arrow array of n fixed-size lists of d numbers, without a copy of the numbers.

    The number type stays: float32, float16, int8 or uint8 (packed bits).

    Raises:
        ValueError: `vectors` does not have two dimensions.

    Example:
        >>> import numpy as np
        >>> from embergem.integrations.arrow import to_arrow
        >>> to_arrow(np.ones((2, 3), dtype=np.float32)).type
        FixedSizeListType(fixed_size_list<item: float>[3])
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors has the shape {vectors.shape}. Give an array (n, d).")
    numbers = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(numbers, vectors.shape[1])


@checked_keywords
def embed_column(
    embedder: Embedder,
    table: Any,
    column: str,
    *,
    into: str = "embedding",
    task: str | None = "document",
    title: Title = None,
    dimensions: int | None = None,
    truncate: bool = False,
) -> Any:
    """Return an Arrow table with a new column: the vectors of a text column.

    Args:
        embedder: Computes the vectors.
        table: A pyarrow table, a pandas frame, or an object with the Arrow C stream interface, such as a polars frame
            or a DuckDB relation.
        column: Name of the text column. It must have no nulls.
        into: Name of the new column.
        task: Task whose prompt is put around the texts. It is left out for a model without that prompt.
        title: One title for all texts, or one for each.
        dimensions: Cut vectors to this size; None is the full size.
        truncate: Cut texts above the token limit, with a `TruncationWarning`, instead of refusing them.

    Raises:
        ValueError: The column has a null; the message has its row.

    Example:
        >>> import pyarrow as pa
        >>> from embergem import Embedder
        >>> from embergem.integrations.arrow import embed_column
        >>> table = pa.table({"text": ["a", "b"]})
        >>> embed_column(Embedder("tests/data/goldens/gemma3_text"), table, "text").column_names
        ['text', 'embedding']
    """
    table = _table(table)
    texts = table.column(column).to_pylist()
    if None in texts:
        raise ValueError(f"Row {texts.index(None)} of the column {column!r} is null. Fill or drop it first.")
    task = task_or_none(embedder, task)
    vectors = embedder.embed(texts, task=task, title=title, dimensions=dimensions, truncate=truncate)
    return table.append_column(into, to_arrow(vectors))


def _table(frame: Any) -> Any:
    if isinstance(frame, pa.Table):
        return frame
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    return pa.Table.from_pandas(frame, preserve_index=False)
