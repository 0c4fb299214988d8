"""`JobOptions`: everything that determines the output of a bulk job besides its source and its model."""

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import msgspec

from embergem.errors import UnsupportedOption
from embergem.keywords import checked_class
from embergem.suggestions import did_you_mean

OutputDtype = Literal["float32", "float16", "int8", "binary"]
"""Forms of the vectors; see `embergem.sdk.outputs.convert`."""

OnError = Literal["stop", "null", "skip"]
"""What becomes of a row without a valid text: end the job, write the row without a vector, leave the row out."""

TooLong = Literal["stop", "truncate", "chunk"]
"""What becomes of a text above the token limit: end the job, cut the text, embed it in chunks."""

ChunkPool = Literal["each", "mean"]
"""What becomes of chunks: one row each, or one row with the mean of their vectors, weighted by tokens."""

CHOICES = {"output_dtype": OutputDtype, "on_error": OnError, "too_long": TooLong, "chunk_pool": ChunkPool}


@checked_class
@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How the rows of a source become rows of the output.

    Attributes:
        column: Column of the texts. None is "text".
        id: Column of the ids, which the output has in place of the row number. None is the row number, `index`.
        title: Column of the titles, for a task whose prompt has a place for one.
        title_text: One title for all rows, instead of `title`.
        keep: Other columns of the source that the output has. None keeps none, but JSON lines keep the text.
        into: Name of the column of the vectors.
        task: Task whose prompt is put around each text. None is no prompt.
        dimensions: Size to cut the vectors to. None is the full size.
        output_dtype: Form of the vectors.
        on_error: What becomes of a row without a valid text.
        too_long: What becomes of a text above the token limit.
        chunk_overlap: Tokens that two neighbouring chunks have in common, about.
        chunk_pool: What becomes of the chunks of a text.

    Raises:
        UnsupportedOption: A value is not possible, whatever the source and the model are.

    Example:
        >>> from embergem.bulk.job_options import JobOptions
        >>> JobOptions(column="body", too_long="truncate").on_error
        'stop'
    """

    column: str | None = None
    id: str | None = None
    title: str | None = None
    title_text: str | None = None
    keep: tuple[str, ...] | None = None
    into: str = "embedding"
    task: str | None = None
    dimensions: int | None = None
    output_dtype: OutputDtype = "float32"
    on_error: OnError = "stop"
    too_long: TooLong = "stop"
    chunk_overlap: int = 0
    chunk_pool: ChunkPool = "each"

    def __post_init__(self) -> None:
        for name, kind in CHOICES.items():
            value, allowed = getattr(self, name), get_args(kind)
            if value not in allowed:
                raise UnsupportedOption(
                    f"{name}={value!r} is not possible.{did_you_mean(str(value), allowed)} Choose one of: "
                    f"{', '.join(allowed)}.",
                    param=name,
                )
        if self.chunk_overlap < 0:
            raise UnsupportedOption(
                f"chunk_overlap={self.chunk_overlap} is not possible. Give 0 or more tokens.", param="chunk_overlap"
            )
        if self.too_long != "chunk" and (self.chunk_overlap or self.chunk_pool != "each"):
            name = "chunk_overlap" if self.chunk_overlap else "chunk_pool"
            raise UnsupportedOption(f"{name} has no effect without too_long='chunk'. Set that too.", param=name)
        if not self.into:
            raise UnsupportedOption("into is empty. Give a name for the column of the vectors.", param="into")
        if self.title is not None and self.title_text is not None:
            raise UnsupportedOption("title and title_text are both given. Use only one of the two.", param="title_text")

    def to_json(self) -> str:
        """Return the options as JSON with sorted keys, for the manifest."""
        return msgspec.json.encode(dict(sorted(asdict(self).items()))).decode()


def difference(before: str, now: str) -> str | None:
    """Describe the first difference of two jobs, given as JSON; None if one can continue the other.

    A policy may be changed from "stop" to another one: a job that "stop" ended has no row that the policy concerns.

    >>> difference('{"on_error": "stop", "task": null}', '{"on_error": "skip", "task": null}')
    >>> difference('{"on_error": "skip", "task": null}', '{"on_error": "skip", "task": "query"}')
    'task was None and is now query'
    """
    first, second = msgspec.json.decode(before), msgspec.json.decode(now)
    changed = [name for name in second if first.get(name) != second[name]]
    if "too_long" in changed and first["too_long"] == "stop":
        changed = [name for name in changed if name not in ("too_long", "chunk_overlap", "chunk_pool")]
    if "on_error" in changed and first["on_error"] == "stop":
        changed.remove("on_error")
    if not changed:
        return None
    name = changed[0]
    return f"{name} was {first.get(name)} and is now {second[name]}"
