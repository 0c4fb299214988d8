"""Arrow: vectors as a `FixedSizeList<float32>`, which polars, pandas, DuckDB and Parquet take without copying."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem.embedder import Embedder
from embergem.integrations import missing, task_or_none
from embergem.sdk.inputs import Title

try:
    import pyarrow as pa
except ImportError as error:
    raise missing("pyarrow", "arrow") from error


def to_arrow(vectors: NDArray[Any]) -> Any:
    """Return vectors (n, d) as an Arrow array of n fixed-size lists of d, without copying the numbers.

    float32, float16, int8 and uint8 (packed bits) keep their type.

    Raises:
        ValueError: The array does not have two dimensions.

    Example:
        >>> import numpy as np
        >>> from embergem.integrations.arrow import to_arrow
        >>> to_arrow(np.ones((2, 3), dtype=np.float32)).type
        FixedSizeListType(fixed_size_list<item: float>[3])
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors have shape {vectors.shape}; (n, d) is needed")
    numbers = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(numbers, vectors.shape[1])


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
    """Return an Arrow table with the vectors of a text column beside it.

    Args:
        embedder: The model.
        table: A pyarrow table, or a frame that speaks Arrow: polars, pandas, a DuckDB relation.
        column: Name of the column of texts; none may be missing.
        into: Name of the new column.
        task: Prompt of the texts; the document's unless said otherwise, none for models without that prompt.
        title: One title for all texts, or one each.
        dimensions: Cut vectors to this size; None is the model's own.
        truncate: Cut texts over the limit, with a `TruncationWarning`, instead of refusing them.

    Raises:
        ValueError: A text is missing; the message says which.

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
        raise ValueError(f"row {texts.index(None)} of the column {column!r} has no text; fill or drop it first")
    task = task_or_none(embedder, task)
    vectors = embedder.embed(texts, task=task, title=title, dimensions=dimensions, truncate=truncate)
    return table.append_column(into, to_arrow(vectors))


def _table(frame: Any) -> Any:
    if isinstance(frame, pa.Table):
        return frame
    if hasattr(frame, "__arrow_c_stream__"):
        return pa.table(frame)
    return pa.Table.from_pandas(frame, preserve_index=False)
