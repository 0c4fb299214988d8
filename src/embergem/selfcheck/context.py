"""The input of the self-check: a loaded model, what is known about it, and its vectors for the rows of the check."""

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

    Attributes:
        run: Computes vectors.
        text: The tokenizer and the prompts.
        model_type: `model_type` of config.json, in its canonical spelling.
        config: The family's config; None for a compiled model.
        head: The modules after the transformer; None for a compiled model.
        limit: Most tokens of one input.
        dimensions: Size of a vector.
        dtype: Arithmetic of the large products.
        cosine: Least cosine of the vectors to those in float32, as measured.
        entry: What the catalog says about a model of this name.
        base: What the catalog says about the model that this one is, or was fine-tuned from.
        files: All files that the model was loaded from.
        variant: Everything else that the vectors depend on.
        name: Name of the model.
        hub_id: Id that the files were downloaded under; None for a directory of the caller.
        window: Window that the caller chose instead of the checkpoint's.
        dense_optional: The caller permits missing dense layers.
    """

    run: Run
    text: TextPipeline
    model_type: str
    config: Any
    head: Sequence[Module] | None
    limit: int
    dimensions: int
    dtype: str
    cosine: float
    entry: Entry | None
    base: Entry | None
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
class Observation:
    """Rows of ids, their vectors in one batch, and the vectors of the first rows alone.

    `fault` is the error of a run that gave no vectors.
    """

    rows: Sequence[Ids]
    together: Vectors
    alone: Vectors
    fault: str | None = None


def base_model(model_type: str, config: Any, entry: Entry | None, declared_names: Sequence[str] = ()) -> Entry | None:
    """Return the catalog entry of the model that a checkpoint is, or was fine-tuned from.

    That is `entry` if it is given; otherwise the entry of a name in `declared_names`, if the config has the shape of
    that entry, because a model may change after it was named; otherwise the entry whose shape no other model has.
    """
    if entry is not None:
        return entry
    for name in declared_names:
        named = catalog.meant(name, model_type)
        if named is not None and (named.shape or named.layers) and has_shape(config, named):
            return named
    for known in catalog.CATALOG:
        if known.shape and known.family == model_type and has_shape(config, known):
            return known
    return None


def similar_models(context: CheckContext) -> Iterator[Entry]:
    """Yield the catalog entries that have the family, the shape and the pooling of a model that nothing names."""
    pooling = next((module.mode for module in context.head or () if isinstance(module, Pooling)), None)
    for known in catalog.CATALOG:
        alike = known.layers is not None and known.family == context.model_type and known.pooling == pooling
        if alike and has_shape(context.config, known):
            yield known


def has_shape(config: Any, entry: Entry) -> bool:
    """Return whether a family's config has the shape of an entry."""
    wanted = dict(entry.shape)
    if entry.layers:
        wanted |= {"hidden_size": entry.dimensions, "num_hidden_layers": entry.layers, "vocab_size": entry.vocabulary}
    return all(getattr(config, name, None) == value for name, value in wanted.items())


def observe(context: CheckContext, rows: Sequence[Ids], alone: int) -> Observation:
    """Run rows in one batch, and the first `alone` of them each in a batch of its own."""
    none = np.empty((0, 0), np.float32)
    try:
        together = context.run(*pack(rows))
        single = np.concatenate([context.run(*pack([row])) for row in rows[:alone]])
    except NonFiniteOutput as error:
        return Observation(rows, none, none, error.message)
    return Observation(rows, together, single)
