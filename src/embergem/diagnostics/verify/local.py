"""`LocalModel`: a model on this machine that computes vectors with its own program or with a changed one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np

from embergem import paths
from embergem._native import Model, TextPipeline
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.checkpoint.remote_code import accept_known_code
from embergem.engine.prepare import prepare, text_pipeline
from embergem.errors import UnsupportedOption
from embergem.models import architecture
from embergem.ops.trace import Recorded
from embergem.program.build import build
from embergem.types import Ids, Vectors, pack

BATCH_TOKENS = 4096
"""Tokens of one native call."""
UNCUT_TOKENS = 8192
"""Tokens of a text that are read beyond the limit of a model: more than any probe has."""


class LocalModel:
    """A checkpoint, its text pipeline, and the native models for its program and for changed programs.

    Args:
        location: The files of the model. A compiled model is refused, because its head cannot be changed.
        threads: Threads to compute with; None uses one for each core.
    """

    def __init__(self, location: Location, threads: int | None = None) -> None:
        checkpoint = read_checkpoint(location)
        if checkpoint.compiled:
            raise UnsupportedOption(
                f"{location.id} is compiled, and `embergem verify` needs the original model to try faults. Name the "
                "original model.",
                param="model",
            )
        self.location = location
        self.architecture = architecture(accept_known_code(checkpoint))
        self.head = checkpoint.head
        prepared = prepare(checkpoint, location.id)
        self.limit = prepared.limit
        self.radius: int | None = getattr(self.architecture.config, "radius", None)
        self.program = prepared.program
        self._source = self.program.to_json()
        self.text = text_pipeline(checkpoint, prepared)
        self._checkpoint, self._prepared = checkpoint, prepared
        files = checkpoint.files

        @lru_cache(maxsize=2)  # each entry holds packed weights
        def load(program: str, dtype: str) -> Model:
            return Model.load(program, files, threads=threads, dtype=dtype, notes=str(paths.cache_root()))

        self._load = load

    def rows(self, texts: Sequence[str], task: str | None = None) -> list[Ids]:
        """Return the token ids of each text, truncated to the limit of the model."""
        return [ids for ids, _ in self.text.prepare(texts, task=task, truncate=True)]

    def uncut_rows(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text, also beyond the limit of the model; at most `UNCUT_TOKENS`."""
        return [ids for ids, _ in self._uncut_text.prepare(texts, truncate=True)]

    @cached_property
    def _uncut_text(self) -> TextPipeline:
        """A second tokenizer without the limit. It is read when a text beyond the limit is first needed."""
        return text_pipeline(self._checkpoint, replace(self._prepared, limit=UNCUT_TOKENS))

    def vectors(self, rows: Sequence[Ids], program: str | None = None, dtype: str = "float32") -> Vectors:
        """Return the vectors of rows of ids, shape `(len(rows), dimensions)`.

        Args:
            rows: Token ids of each row.
            program: A program over the same weights, as JSON; None is the program of the model.
            dtype: Arithmetic of the large products.
        """
        model = self._load(program or self._source, dtype)
        batches: list[list[Ids]] = [[]]
        for row in rows:
            if batches[-1] and sum(map(len, batches[-1])) + len(row) > BATCH_TOKENS:
                batches.append([])
            batches[-1].append(row)
        return np.concatenate([model.run(*pack(batch)) for batch in batches])

    def altered(self, op: str, change: Callable[[Recorded], Recorded]) -> str | None:
        """Return the program in which `change` is applied to every call of `op`, as JSON; None if it changes nothing.

        The calls are those that the family's file makes, so that their parameters are the arguments of `Operations`.
        """
        built = build(self.architecture, self.head, alter=lambda call: change(call) if call.op == op else call)
        program = built.to_json()
        return None if program == self._source else program
