"""Embeds the texts of an evaluation once, and gives their vectors in each size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embergem._native import cut
from embergem.embedder import Embedder
from embergem.errors import InvalidRequest, InvalidTask, without_input_prefix
from embergem.evaluate.labelled import Retrieval
from embergem.types import Vectors

Titles = Literal["auto", "prompt", "text", "ignore"]
"""How titles of documents are used; see `evaluate`."""

SAMPLE = 8
"""Texts whose vectors show how the model cuts vectors."""


@dataclass(frozen=True, slots=True)
class SizedVectors:
    """Vectors of texts in the full size, and the function that returns them in a smaller size."""

    full: Vectors
    cut_to: Callable[[int], Vectors]

    def at(self, size: int) -> Vectors:
        """Return the vectors in this size."""
        return self.full if size == self.full.shape[1] else self.cut_to(size)


@dataclass(frozen=True, slots=True)
class TextEmbedder:
    """Embeds the texts of one evaluation.

    Attributes:
        embedder: The model.
        truncate, progress: As in `evaluate`.
        notes: Notes of the report, to which the number of truncated texts is added.
    """

    embedder: Embedder
    truncate: bool
    progress: bool | None
    notes: list[str]

    def embed(
        self,
        kind: str,
        texts: list[str],
        task: str | None,
        titles: list[str | None] | None,
        place: Callable[[int], str],
    ) -> SizedVectors:
        """Embed texts.

        Args:
            kind: What the texts are, for notes: "texts", "queries" or "documents".
            texts: The texts.
            task: Task whose prompt is put around them.
            titles: One title or None for each text, if there are titles.
            place: Returns where a text stands, by its index, for errors.
        """

        def vectors(size: int | None = None, count: int | None = None) -> Vectors:
            return self.embedder.embed(
                texts[:count],
                task=task,
                title=None if titles is None else titles[:count],
                dimensions=size,
                truncate=self.truncate,
                progress=self.progress if count is None else False,
            )

        def cut_to(size: int) -> Vectors:
            expected = vectors(size, SAMPLE)
            for norm_first in (False, True):
                if np.array_equal(cut(full[:SAMPLE], size, norm_first), expected):
                    return cut(full, size, norm_first)
            return vectors(size)  # a model that cuts its vectors in another way

        if self.truncate:
            lengths = self.embedder.count_tokens(texts, task=task, title=titles)
            if number := sum(length > self.embedder.limit for length in lengths):
                self.notes.append(f"{number:,} of {len(texts):,} {kind} were cut to {self.embedder.limit} tokens.")
        try:
            full = vectors()
        except InvalidRequest as error:
            if error.input_index is None:
                raise
            raise type(error)(
                f"{place(error.input_index)}: the text {without_input_prefix(error.message, error.input_index)}",
                param=error.param,
            ) from error
        return SizedVectors(full, cut_to)


def with_titles(
    embedder: Embedder, data: Retrieval, names: list[str], task: str | None, titles: Titles
) -> tuple[list[str], list[str | None] | None, Titles | None]:
    """Return the texts of documents, their titles for the prompt, and how titles are used."""
    texts = [data.documents[name] for name in names]
    if not data.titles:
        return texts, None, None
    if titles == "auto":
        titles = "prompt" if _takes_title(embedder, task) else "text"
    if titles == "prompt":
        return texts, [data.titles.get(name) for name in names], titles
    if titles == "text":
        texts = [
            f"{data.titles[name]} {text}" if name in data.titles else text
            for name, text in zip(names, texts, strict=True)
        ]
    return texts, None, titles


def _takes_title(embedder: Embedder, task: str | None) -> bool:
    try:
        embedder.embed([""], task=task, title="title")
    except InvalidTask:
        return False
    return True
