"""What is checked: a model before it is handed to anybody, with what is known about it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embergem import catalog
from embergem._native import TextPipeline
from embergem.catalog import Entry
from embergem.errors import NonFiniteOutput
from embergem.models import find
from embergem.models.head import Module, Pooling
from embergem.types import Ids, pack

Vectors = NDArray[np.float32]
Run = Callable[[Ids, Ids], Vectors]
"""(ids, cu_seqlens) -> (rows, dimensions)."""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """A model under check.

    `config` is its family's config and `head` what comes after pooling; a compiled model has neither, only its program.
    `entry` is what the catalog says about a model of this name, `kin` about the model that it is or was fine-tuned
    from. `name` is what it is called here, `hub_id` the id that its files were fetched under; None where they are the
    caller's own. `cosine` is the least cosine of its vectors to float32, as measured. `window` is a window that the
    caller chose over the checkpoint's, `dense_optional` the caller's leave to go without dense layers. `files` are all
    the files that it was made of, `variant` lists everything else that its vectors depend on.
    """

    run: Run
    text: TextPipeline
    model_type: str
    config: Any
    head: Sequence[Module] | None
    limit: int
    dtype: str
    cosine: float
    entry: Entry | None
    kin: Entry | None
    files: Sequence[Path]
    variant: Sequence[str]
    name: str
    hub_id: str | None = None
    window: int | None = None
    dense_optional: bool = False

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Roles of the tokens that the family puts around every text."""
        declared = find(self.model_type)
        return () if declared is None else declared[1].special_tokens


@dataclass(frozen=True, slots=True)
class Observed:
    """Rows of tokens with their vectors in one batch and each alone; `fault` says why there are none."""

    rows: Sequence[Ids]
    together: Vectors
    alone: Vectors
    fault: str | None = None


def kin(model_type: str, config: Any, entry: Entry | None, said: Sequence[str] = ()) -> Entry | None:
    """Find the model that a checkpoint is, or was made from.

    That is its `entry`; or what its files say, the names `said`, if it has the shape of that one, since a model may be
    rebuilt after it was named; or the one that has its shape, where a shape tells models apart.
    """
    if entry is not None:
        return entry
    for name in said:
        named = catalog.meant(name, model_type)
        if named is not None and (named.shape or named.layers) and matches(config, named):
            return named
    for known in catalog.CATALOG:
        if known.shape and known.family == model_type and matches(config, known):
            return known
    return None


def relatives(context: CheckContext) -> Iterator[Entry]:
    """Models of the same family, shape and pooling as one that nothing names."""
    pooling = next((module.mode for module in context.head or () if isinstance(module, Pooling)), None)
    for known in catalog.CATALOG:
        alike = known.layers is not None and known.family == context.model_type and known.pooling == pooling
        if alike and matches(context.config, known):
            yield known


def matches(config: Any, entry: Entry) -> bool:
    """Return whether a family's config has the shape of an entry."""
    wanted = dict(entry.shape)
    if entry.layers:
        wanted |= {"hidden_size": entry.dimensions, "num_hidden_layers": entry.layers, "vocab_size": entry.vocabulary}
    return all(getattr(config, name, None) == value for name, value in wanted.items())


def observe(context: CheckContext, rows: Sequence[Ids], alone: int) -> Observed:
    """Run rows in one batch, and the first `alone` of them each on its own."""
    none = np.empty((0, 0), np.float32)
    try:
        together = context.run(*pack(rows))
        single = np.concatenate([context.run(*pack([row])) for row in rows[:alone]])
    except NonFiniteOutput as error:
        return Observed(rows, none, none, error.message)
    return Observed(rows, together, single)
