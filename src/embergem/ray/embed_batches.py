"""`Embed`: embeds the batches of a Ray Data pipeline, for `Dataset.map_batches`."""

from typing import Any, Unpack

import numpy as np

from embergem.embedder import Embedder
from embergem.errors import UnsupportedOption
from embergem.keywords import checked_class
from embergem.options import LoadKeywords
from embergem.sdk.outputs import Output, converter
from embergem.suggestions import did_you_mean


@checked_class
class Embed:
    """A callable class that adds a column of vectors to each batch. Each actor of Ray Data loads the model once.

    Args:
        model: As for `Embedder`: a hub id, or a directory that every node has, or the address of a server.
        column: Column of the texts.
        into: Column of the vectors.
        task: Task whose prompt is put around each text; None is no prompt.
        title: Column of the titles, for a task whose prompt has a place for one.
        dimensions: Cut the vectors to this size.
        truncate: Cut texts above the token limit instead of refusing them.
        output: Form of the vectors, as in `Embedder.embed`; not "list".
        options: Options for loading the model, as for `Embedder`.

    Raises:
        UnsupportedOption: A batch has no such column, or `output` is "list".
        InvalidRequest: A text is refused.

    Example:
        >>> import numpy as np
        >>> from embergem.ray import Embed
        >>> embed = Embed("tests/data/goldens/gemma3_text", task="document")
        >>> embed({"text": np.array(["graphene", "apples"], dtype=object)})["embedding"].shape
        (2, 96)

    With Ray Data, which calls it on the nodes of the cluster:

        dataset.map_batches(
            Embed, fn_constructor_kwargs={"model": "minilm"}, compute=ray.data.ActorPoolStrategy(size=4), num_cpus=2
        )
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        column: str = "text",
        into: str = "embedding",
        task: str | None = None,
        title: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        output: Output = "array",
        **options: Unpack[LoadKeywords],
    ) -> None:
        converter(output)
        if output == "list":
            raise UnsupportedOption("output='list' is not a column of numbers. Use 'array'.", param="output")
        self.embedder = Embedder(model, **options)
        self._column, self._into, self._title = column, into, title
        self._how: dict[str, Any] = {
            "task": task,
            "dimensions": dimensions,
            "truncate": truncate,
            "output": output,
            "progress": False,
        }

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with the vectors of its texts, (rows, dimensions); `batch` is a dictionary of arrays."""
        texts = self._column_of(batch, self._column)
        titles = None if self._title is None else self._column_of(batch, self._title)
        vectors = self.embedder.embed(texts, title=titles, **self._how)
        return batch | {self._into: np.asarray(vectors)}

    def _column_of(self, batch: dict[str, Any], name: str) -> list[Any]:
        if name not in batch:
            raise UnsupportedOption(
                f"The batch has no column {name!r}.{did_you_mean(name, batch)} Its columns are: {', '.join(batch)}.",
                param="column",
            )
        return list(batch[name])
