"""This side: a model that can be run as it is, and with one thing about it changed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from embergem._native import Model
from embergem.checkpoint.checkpoint import Location
from embergem.checkpoint.read import read_checkpoint
from embergem.engine.prepare import prepare, text_pipeline
from embergem.errors import UnsupportedOption
from embergem.models import architecture
from embergem.program.program import Program
from embergem.selfcheck.context import Vectors
from embergem.types import Ids, pack

BATCH = 4096
"""Tokens of one native call."""


class Ours:
    """A checkpoint, its text pipeline, and the executor for it and for altered programs of it."""

    def __init__(self, location: Location, threads: int | None = None) -> None:
        checkpoint = read_checkpoint(location)
        if checkpoint.compiled:
            raise UnsupportedOption(
                f"{location.id} is compiled, and what could be wrong with it is tried on the original; name that",
                param="model",
            )
        self.location = location
        self.kind = architecture(checkpoint.config)
        self.head = checkpoint.head
        prepared = prepare(checkpoint, location.id)
        self.limit = prepared.limit
        self.radius: int | None = getattr(self.kind.config, "radius", None)
        self.program = prepared.program
        self._source = self.program.to_json()
        self.text = text_pipeline(checkpoint, prepared)
        files = checkpoint.files

        @lru_cache(maxsize=2)  # each holds packed weights
        def load(program: str, dtype: str) -> Model:
            return Model.load(program, files, threads=threads, dtype=dtype, scan=False)

        self._load = load

    def rows(self, texts: Sequence[str], task: str | None = None) -> list[Ids]:
        """Ids of texts, cut to the limit."""
        return [ids for ids, _ in self.text.prepare(texts, task=task, truncate=True)]

    def vectors(self, rows: Sequence[Ids], program: str | None = None, dtype: str = "float32") -> Vectors:
        """Vectors of rows of ids, by the model's program or another of the same weights, as JSON."""
        model = self._load(program or self._source, dtype)
        batches: list[list[Ids]] = [[]]
        for row in rows:
            if batches[-1] and sum(map(len, batches[-1])) + len(row) > BATCH:
                batches.append([])
            batches[-1].append(row)
        return np.concatenate([model.run(*pack(batch)) for batch in batches])

    def altered(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Program:
        """Return the program with the parameters of every attention step changed."""
        steps = tuple(
            replace(step, parameters=change(dict(step.parameters))) if step.op == "attention" else step
            for step in self.program.steps
        )
        return replace(self.program, steps=steps)
