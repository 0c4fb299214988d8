"""Labelled data: pairs of texts with scores, and queries with the relevance of documents."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embergem.errors import EmptyInput, UnsupportedOption
from embergem.keywords import checked_class
from embergem.suggestions import did_you_mean

LEAST_PAIRS = 3
"""Least number of pairs. Two pairs always have a correlation of 1 or -1."""


@checked_class
@dataclass(frozen=True)
class Pairs:
    """Pairs of texts, each with the similarity that people gave it.

    Attributes:
        first, second: The texts of each pair.
        scores: The score of each pair, on any scale: higher is more similar.
        source: Name of the data in reports and errors.
        lines: Line of each pair in the file; empty for data that was not read from a file.

    Raises:
        UnsupportedOption: The three have different lengths, there are fewer than `LEAST_PAIRS` pairs, a score is not a
            finite number, or all scores are equal.
    """

    first: Sequence[str]
    second: Sequence[str]
    scores: Sequence[float]
    source: str = "pairs"
    lines: Sequence[int] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not len(self.first) == len(self.second) == len(self.scores):
            raise UnsupportedOption(
                f"{self.source}: there are {len(self.first)} first texts, {len(self.second)} second texts and "
                f"{len(self.scores)} scores. Give one of each for every pair."
            )
        if len(self) < LEAST_PAIRS:
            raise UnsupportedOption(f"{self.source} has {len(self)} pairs. A correlation needs {LEAST_PAIRS} or more.")
        for index, score in enumerate(self.scores):
            if not math.isfinite(score):
                raise UnsupportedOption(f"{self.place(index)}: the score {score} is not a finite number.")
        if min(self.scores) == max(self.scores):
            raise UnsupportedOption(
                f"{self.source}: all {len(self):,} scores are {self.scores[0]:g}, so there is no correlation to "
                "measure. Give pairs with different scores."
            )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.scores)

    def place(self, index: int) -> str:
        """Return where a pair stands, for errors."""
        return f"{self.source}, line {self.lines[index]}" if self.lines else f"{self.source}, pair {index}"


@checked_class
@dataclass(frozen=True)
class Retrieval:
    """Queries, documents, and the relevance of documents to queries.

    Attributes:
        queries: Text of each query, by the id of the query.
        documents: Text of each document, by the id of the document.
        relevance: For each query the relevance of the judged documents, by their ids: 0 is not relevant, higher is more
            relevant. A document that is not listed is not relevant.
        titles: Titles of documents, by their ids; documents without a title are left out.
        source: Name of the data in reports and errors.

    Raises:
        EmptyInput: There are no documents, or no query has a relevant document.
        UnsupportedOption: `relevance` or `titles` has the id of a query or document that is not there.
    """

    queries: Mapping[str, str]
    documents: Mapping[str, str]
    relevance: Mapping[str, Mapping[str, int]]
    titles: Mapping[str, str] = field(default_factory=dict)
    source: str = "queries"

    def __post_init__(self) -> None:
        if not self.documents:
            raise EmptyInput(f"{self.source} has no documents. Give the documents that the queries search.")
        for query, judged in self.relevance.items():
            _require(query, self.queries, "query", self.source)
            for document in judged:
                _require(document, self.documents, "document", self.source)
        for document in self.titles:
            _require(document, self.documents, "document", self.source)
        if not self.judged_queries:
            raise EmptyInput(
                f"{self.source}: no query has a relevant document. Give a relevance of 1 or more to the documents that "
                "a query should find."
            )

    @property
    def judged_queries(self) -> list[str]:
        """Ids of the queries that have a relevant document besides themselves; the others are not scored."""

        def scored(query: str) -> bool:
            judged = self.relevance.get(query, {})
            return any(grade > 0 and document != query for document, grade in judged.items())

        return [query for query in self.queries if scored(query)]


Labelled = Pairs | Retrieval
"""Labelled data of either kind."""


def _require(name: str, known: Mapping[str, str], kind: str, source: str) -> None:
    if name not in known:
        raise UnsupportedOption(
            f"{source}: a judgement or a title has the {kind} id {name!r}, and there is no such {kind}."
            f"{did_you_mean(name, list(known)[:1000])} Add the {kind}, or remove the judgement."
        )
