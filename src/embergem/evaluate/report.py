"""The report of an evaluation: what was measured, with which model, tasks and forms of vectors."""

from collections.abc import Mapping

import msgspec

from embergem.evaluate.measures import Bootstrap, Estimate
from embergem.keywords import checked_class


class Form(msgspec.Struct, frozen=True):
    """What one form of vectors achieves.

    Attributes:
        dimensions: Size of the vectors.
        storage: Name of the stored form, such as "int8".
        searched_bytes: Bytes of a vector that a search reads.
        kept_bytes: Bytes of a vector that is kept beside it to score candidates again; 0 if nothing is kept.
        values: Each measure by its name, such as "spearman" or "ndcg@10".
        losses: The value with full float32 vectors minus the value with this form. The interval is that of the paired
            difference.
    """

    dimensions: int
    storage: str
    searched_bytes: int
    kept_bytes: int
    values: Mapping[str, Estimate]
    losses: Mapping[str, Estimate]


@checked_class
class Report(msgspec.Struct, frozen=True):
    """The result of `evaluate`.

    Attributes:
        kind: "pairs" or "retrieval".
        source: Name of the data.
        model, dtype, fingerprint: The model, its arithmetic, and the name of its vector space; see `Embedder`.
        tasks: The task whose prompt was put around the texts of each side: "first" and "second", or "query" and
            "document". None is no prompt.
        titles: How titles of documents were used: "prompt", "text", "ignore", or None if there are none.
        counts: Number of pairs, texts, queries, documents and judgements.
        main: Name of the measure by which forms are compared.
        bootstrap: How intervals were computed.
        candidates: Number of documents that were scored again, for forms that keep vectors for that; else None.
        forms: One row for each form; the first has the full float32 vectors.
        notes: What a reader has to know besides.
    """

    kind: str
    source: str
    model: str
    dtype: str
    fingerprint: str | None
    tasks: Mapping[str, str | None]
    titles: str | None
    counts: Mapping[str, int]
    main: str
    bootstrap: Bootstrap
    candidates: int | None
    forms: tuple[Form, ...]
    notes: tuple[str, ...] = ()

    @property
    def full(self) -> Form:
        """The full float32 vectors, with which the other forms are compared."""
        return self.forms[0]

    def smallest(self, loss: float) -> Form | None:
        """Return the form with the fewest bytes whose loss is at most `loss`, even at the upper end of its interval.

        The bytes that a search reads are compared, then those that are kept. None if no interval is known.
        """
        held = [form for form in self.forms if (high := form.losses[self.main].high) is not None and high <= loss]
        return min(held, key=lambda form: (form.searched_bytes, form.kept_bytes), default=None)

    def to_json(self) -> str:
        """Return the report as JSON with the names of the attributes, a key a line."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
