"""`evaluate`: embed labelled data once, and measure what each form of the vectors achieves."""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from embergem.embedder import Embedder
from embergem.errors import InvalidDimensions, InvalidTask, UnsupportedOption
from embergem.evaluate.embedded import TextEmbedder, Titles, with_titles
from embergem.evaluate.labelled import Labelled, Pairs, Retrieval
from embergem.evaluate.measures import (
    NDCG_CUTOFF,
    Bootstrap,
    Measures,
    correlations,
    ranking_measures,
    require_libraries,
)
from embergem.evaluate.report import Form, Report
from embergem.evaluate.storage import COMPARED, FULL, Places, Storage, pair_similarities, search, storage_named
from embergem.keywords import checked_keywords
from embergem.suggestions import did_you_mean
from embergem.tasks import Task

AUTO = "auto"
"""Stands for the task of the kind of data, if the model has a prompt for it."""

CUTOFFS = (10, 100)
"""Cutoffs of the recall by default."""

FEW = 30
"""Number of pairs or queries below which a note says that intervals are rough."""


@checked_keywords
def evaluate(
    embedder: Embedder,
    labelled: Labelled,
    *,
    dimensions: Sequence[int] | None = None,
    storage: Sequence[str] | None = None,
    task: Task | str | None = AUTO,
    query_task: Task | str | None = AUTO,
    document_task: Task | str | None = AUTO,
    titles: Titles = "auto",
    cutoffs: Sequence[int] | None = None,
    oversample: int = 4,
    bootstrap: Bootstrap | None = None,
    truncate: bool = False,
    progress: bool | None = None,
) -> Report:
    """Measure a model on labelled data, with full vectors and with smaller ones.

    Pairs are scored by the Pearson and Spearman correlation of their cosine with the scores of people. Queries are
    scored by nDCG@10 and by recall; a document with the id of the query is left out, as in BEIR. The order of documents
    with equal scores is random and fixed by the seed.

    Args:
        embedder: The model.
        labelled: The data; see `read_labelled`.
        dimensions: Sizes of vectors to compare; None is all of `embedder.allowed_dimensions`, if there are at most
            eight, else the powers of two among them.
        storage: Names of stored forms to compare, from `embergem.evaluate.storage.STORAGE`; None is float32, int8,
            binary and, for queries, binary+int8.
        task: Task whose prompt is put around both texts of a pair. "auto" is "semantic_similarity" if the model has a
            prompt for it; None is no prompt.
        query_task: Task of queries. "auto" is "query" if the model has a prompt for it; None is no prompt.
        document_task: Task of documents. "auto" is "document" if the model has a prompt for it; None is no prompt.
        titles: How titles of documents are used. "prompt" puts them into the document prompt, "text" before the text
            with a space between, and "ignore" leaves them out. "auto" is "prompt" if the task takes a title, else
            "text", as BEIR does it.
        cutoffs: Numbers of documents whose recall is measured; None is 10 and 100. Those that are not below the number
            of documents are left out, with a note.
        oversample: For forms such as "binary+int8": this many times the largest cutoff is the number of candidates that
            are scored again.
        bootstrap: Number of resamples, confidence and seed.
        truncate: Cut texts above `embedder.limit`, with a `TruncationWarning` and a note, instead of refusing them.
        progress: As in `Embedder.embed`.

    Raises:
        InvalidRequest: A text is too long, the model has no such task or size, or an option does not apply.
        UnsupportedOption: scipy or pytrec_eval is missing: `pip install 'embergem[eval]'`.

    Example:
        >>> from embergem import Embedder
        >>> from embergem.evaluate import Pairs, evaluate
        >>> pairs = Pairs(["a cat", "a dog", "a car"], ["a kitten", "a puppy", "the sea"], [0.9, 0.8, 0.1])
        >>> with Embedder("tests/data/goldens/gemma3_text") as embedder:
        ...     report = evaluate(embedder, pairs)
        >>> [(form.dimensions, form.storage, form.searched_bytes) for form in report.forms]
        [(96, 'float32', 384), (96, 'int8', 96), (96, 'binary', 12)]
    """
    require_libraries()
    bootstrap = bootstrap or Bootstrap()
    forms = _forms(embedder, labelled, dimensions, storage)
    notes: list[str] = []
    embed = TextEmbedder(embedder, truncate, progress, notes)
    if isinstance(labelled, Pairs):
        _refuse({"query_task": query_task, "document_task": document_task, "titles": titles}, AUTO, "queries", labelled)
        _refuse({"cutoffs": cutoffs}, None, "queries", labelled)
        return _evaluate_pairs(
            embed, labelled, forms, _task(embedder, "task", task, Task.SEMANTIC_SIMILARITY), bootstrap
        )
    _refuse({"task": task}, AUTO, "pairs", labelled)
    if titles not in get_args(Titles):
        raise UnsupportedOption(
            f"titles={titles} is unknown.{did_you_mean(titles, get_args(Titles))} Choose one of: "
            f"{', '.join(get_args(Titles))}.",
            param="titles",
        )
    if oversample < 1:
        raise UnsupportedOption(f"oversample={oversample} is not possible. Give 1 or more.", param="oversample")
    tasks = {
        "query": _task(embedder, "query_task", query_task, Task.QUERY),
        "document": _task(embedder, "document_task", document_task, Task.DOCUMENT),
    }
    chosen = _cutoffs(cutoffs, len(labelled.documents), notes)
    return _evaluate_retrieval(embed, labelled, forms, tasks, titles, chosen, oversample, bootstrap)


def _evaluate_pairs(
    embed: TextEmbedder, pairs: Pairs, forms: Sequence[tuple[int, Storage]], task: str | None, bootstrap: Bootstrap
) -> Report:
    index = {text: place for place, text in enumerate(dict.fromkeys([*pairs.first, *pairs.second]))}
    first, second = (np.array([index[text] for text in texts]) for texts in (pairs.first, pairs.second))

    def place(text: int) -> str:
        return pairs.place(int(np.flatnonzero((first == text) | (second == text))[0]))

    vectors = embed.embed("texts", list(index), task, None, place)
    similarities = np.stack([pair_similarities(vectors.at(size), first, second, form.form) for size, form in forms])
    measured = correlations(similarities.astype(np.float64), np.asarray(pairs.scores, dtype=np.float64), bootstrap)
    embed.notes.extend(_few(len(pairs), "pairs"))
    return Report(
        kind="pairs",
        source=pairs.source,
        model=embed.embedder.model,
        dtype=embed.embedder.dtype,
        fingerprint=embed.embedder.fingerprint,
        tasks={"first": task, "second": task},
        titles=None,
        counts={"pairs": len(pairs), "texts": len(index)},
        main="spearman",
        bootstrap=bootstrap,
        candidates=None,
        forms=_report_forms(forms, measured),
        notes=tuple(embed.notes),
    )


def _evaluate_retrieval(
    embed: TextEmbedder,
    data: Retrieval,
    forms: Sequence[tuple[int, Storage]],
    tasks: dict[str, str | None],
    titles: Titles,
    cutoffs: Sequence[int],
    oversample: int,
    bootstrap: Bootstrap,
) -> Report:
    queries = data.judged_queries
    # A search keeps the order of documents with equal scores, and files often have the relevant documents first.
    names = list(data.documents)
    names = [names[place] for place in np.random.default_rng(bootstrap.seed).permutation(len(names))]
    places = {name: place for place, name in enumerate(names)}
    texts, document_titles, titles_used = with_titles(embed.embedder, data, names, tasks["document"], titles)
    asked = embed.embed(
        "queries",
        [data.queries[name] for name in queries],
        tasks["query"],
        None,
        lambda index: _place(data, "query", queries[index]),
    )
    stored = embed.embed(
        "documents", texts, tasks["document"], document_titles, lambda index: _place(data, "document", names[index])
    )
    depth = max(*cutoffs, NDCG_CUTOFF)
    candidates = oversample * depth
    own = [places.get(name) for name in queries]  # the document that is the query itself
    extra = int(any(place is not None for place in own))
    rankings: list[list[Places]] = []
    for size, form in forms:
        found = search(asked.at(size), stored.at(size), form, depth + extra, candidates)
        rankings.append([ranked[ranked != place][:depth] for ranked, place in zip(found, own, strict=True)])
    relevance = [
        {places[name]: grade for name, grade in data.relevance[query].items() if name != query} for query in queries
    ]
    measured = ranking_measures(rankings, relevance, cutoffs, bootstrap)
    rescored = any(form.kept is not None for _, form in forms)
    embed.notes.extend(_few(len(queries), "queries with a relevant document"))
    if rescored and candidates >= len(names):
        embed.notes.append(
            f"All {len(names):,} documents are candidates ({oversample} × {depth}), so forms with + lose no document. "
            "Judge them on a larger corpus, or with a smaller oversample or smaller cutoffs."
        )
    if left := len(data.queries) - len(queries):
        embed.notes.append(f"{left:,} queries have no relevant document and are not scored.")
    if extra:
        embed.notes.append("Documents with the id of the query are left out of its ranking.")
    return Report(
        kind="retrieval",
        source=data.source,
        model=embed.embedder.model,
        dtype=embed.embedder.dtype,
        fingerprint=embed.embedder.fingerprint,
        tasks=tasks,
        titles=titles_used,
        counts={
            "queries": len(queries),
            "documents": len(names),
            "judgements": sum(map(len, relevance)),
        },
        main=f"ndcg@{NDCG_CUTOFF}",
        bootstrap=bootstrap,
        candidates=candidates if rescored else None,
        forms=_report_forms(forms, measured),
        notes=tuple(embed.notes),
    )


def _forms(
    embedder: Embedder, labelled: Labelled, dimensions: Sequence[int] | None, storage: Sequence[str] | None
) -> list[tuple[int, Storage]]:
    """Return the sizes and stored forms to compare; the first is the full size in float32."""
    sizes = _sizes(embedder) if dimensions is None else list(dict.fromkeys(dimensions))
    for size in sizes:
        if size not in embedder.allowed_dimensions:
            raise InvalidDimensions(
                f"dimensions={size} is not possible with {embedder.model}. Choose from: "
                f"{', '.join(map(str, embedder.allowed_dimensions[:16]))}.",
                param="dimensions",
            )
    pairs = isinstance(labelled, Pairs)
    names = [name for name in COMPARED if not (pairs and "+" in name)] if storage is None else storage
    chosen = [storage_named(name) for name in dict.fromkeys(names)]
    for form in chosen:
        if pairs and form.kept is not None:
            raise UnsupportedOption(
                f"storage={form.name} scores the candidates of a search again, and pairs are not searched. Use "
                f"{form.name.partition('+')[0]}, or give queries with documents.",
                param="storage",
            )
    compared = [(size, form) for size in sizes for form in chosen]
    full = (embedder.dimensions, FULL)
    return [full, *(form for form in compared if form != full)]


def _sizes(embedder: Embedder) -> list[int]:
    allowed = embedder.allowed_dimensions
    if len(allowed) <= 8:
        return list(allowed)
    return [size for size in allowed if size == embedder.dimensions or size & (size - 1) == 0]


def _task(embedder: Embedder, name: str, given: Task | str | None, default: Task) -> str | None:
    """Return the task that the option `name` stands for; None is no prompt."""
    if given == AUTO:
        return str(default) if default in embedder.tasks else None
    if given is None:
        return None
    try:
        embedder.count_tokens([""], task=given)
    except InvalidTask as error:
        raise InvalidTask(f"{name}={given}: {error.message}", param=name) from None
    return str(given)


def _refuse(options: dict[str, object], default: object, kind: str, labelled: Labelled) -> None:
    for name, value in options.items():
        if value != default:
            raise UnsupportedOption(
                f"{name}={value} is for {kind}, and {labelled.source} has "
                f"{'pairs' if isinstance(labelled, Pairs) else 'queries'}. Leave it out.",
                param=name,
            )


def _cutoffs(given: Sequence[int] | None, documents: int, notes: list[str]) -> list[int]:
    wanted = sorted(set(CUTOFFS if given is None else given))
    if not wanted or wanted[0] < 1:
        raise UnsupportedOption(f"cutoffs={list(given or ())} is not possible. Give numbers from 1.", param="cutoffs")
    kept = [cutoff for cutoff in wanted if cutoff < documents]
    if left := [cutoff for cutoff in wanted if cutoff >= documents]:
        notes.append(
            f"recall@{', @'.join(map(str, left))} is left out: there are {documents:,} documents, so it would always "
            "be 1."
        )
    if not kept:
        raise UnsupportedOption(
            f"There are only {documents:,} documents, so every cutoff of the recall ({', '.join(map(str, wanted))}) "
            "finds all of them. Give more documents (--corpus), or a smaller cutoff.",
            param="cutoffs",
        )
    return kept


def _report_forms(forms: Sequence[tuple[int, Storage]], measured: Sequence[Measures]) -> tuple[Form, ...]:
    return tuple(
        Form(size, form.name, form.searched_bytes(size), form.kept_bytes(size), values, losses)
        for (size, form), (values, losses) in zip(forms, measured, strict=True)
    )


def _few(count: int, what: str) -> list[str]:
    return [f"There are only {count} {what}, so the intervals are rough."] if count < FEW else []


def _place(data: Retrieval, kind: str, name: str) -> str:
    return f"{data.source}, {kind} {name!r}"
