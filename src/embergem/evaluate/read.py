"""`read_labelled`: reads labelled data from a file, whose columns say what it has, or from a directory of BEIR."""

from collections.abc import Sequence
from pathlib import Path

from embergem.errors import EmptyInput, InvalidText, UnsupportedOption
from embergem.evaluate.beir import read_beir
from embergem.evaluate.labelled import Labelled, Pairs, Retrieval
from embergem.evaluate.labelled_rows import Row, number_of, read_rows, text_of, whole_number
from embergem.keywords import checked_keywords
from embergem.suggestions import did_you_mean

FIRST = ("text1", "sentence1")
"""Names of the column with the first text of a pair; the first name that the file has is used."""

SECOND = ("text2", "sentence2")
"""Names of the column with the second text of a pair."""

SCORE = "score"
"""Name of the column with the score of a pair, or the relevance of a document."""

QUERY = "query"
"""Name of the column with the query."""

DOCUMENT = "document"
"""Name of the column with a judged document."""

RELEVANT = "relevant"
"""Field of a JSON line with the list of all relevant documents of a query."""

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Suffixes of labelled files."""


@checked_keywords
def read_labelled(
    path: str | Path,
    *,
    pairs: Sequence[str] | None = None,
    relevance: Sequence[str] | None = None,
    corpus: str | Path | None = None,
    split: str | None = None,
) -> Labelled:
    """Read labelled data: pairs with scores, or queries with relevant documents.

    The columns of a file decide what it is. Pairs have the columns text1, text2 (or sentence1, sentence2) and score.
    Queries have the columns query, document and, if documents have degrees of relevance, score; or in JSON lines query
    and relevant, a list of texts. A directory is read as BEIR lays it out: corpus.jsonl, queries.jsonl, qrels/*.tsv.

    Args:
        path: File (.csv, .tsv, .jsonl, .ndjson) or directory.
        pairs: Names of the three columns of pairs, if they have others.
        relevance: Names of the two or three columns of queries, if they have others.
        corpus: Further documents for the queries of a file: the field or column text, with the column title if there is
            one, or plain lines (.txt).
        split: Which file of qrels is read, without .tsv. None is "test", or the only file.

    Raises:
        EmptyInput: The file has no rows.
        InvalidText: A row cannot be read, or has no text or no number where one is needed.
        UnsupportedOption: The file cannot be read, its suffix is unknown, a column is missing, or an option does not
            apply to this kind of data.
    """
    path = Path(path)
    if path.is_dir():
        for name, value in (("pairs", pairs), ("relevance", relevance), ("corpus", corpus)):
            if value is not None:
                raise UnsupportedOption(
                    f"{name} is for a single file, and {path} is a directory in the layout of BEIR. Leave it out.",
                    param=name,
                )
        return read_beir(path, split)
    if split is not None:
        raise UnsupportedOption(
            f"split={split!r} is for a directory in the layout of BEIR, and {path} is a file. Leave it out.",
            param="split",
        )
    rows = list(read_rows(path, SUFFIXES))
    if not rows:
        raise EmptyInput(f"{path} is empty. Give one pair, or one query with a document, on each line.")
    names = list(rows[0][1])
    if pairs is not None and relevance is not None:
        raise UnsupportedOption("pairs and relevance are both given. A file has one or the other.", param="relevance")
    if pairs is not None:
        columns = _named(names, pairs, (3,), "pairs", path)
    elif relevance is not None:
        columns = _named(names, relevance, (2, 3), "relevance", path)
        return _retrieval(rows, columns, path, corpus)
    elif QUERY in names and (DOCUMENT in names or RELEVANT in names):
        columns = [QUERY, DOCUMENT if DOCUMENT in names else RELEVANT, *([SCORE] if SCORE in names else [])]
        return _retrieval(rows, columns, path, corpus)
    else:
        columns = _pair_columns(names, path)
    if corpus is not None:
        raise UnsupportedOption(f"corpus is for queries, and {path} has pairs. Leave it out.", param="corpus")
    first, second, score = columns
    return Pairs(
        [text_of(row, first, path) for row in rows],
        [text_of(row, second, path) for row in rows],
        [number_of(row, score, path) for row in rows],
        source=str(path),
        lines=[line for line, _ in rows],
    )


def _named(names: Sequence[str], given: Sequence[str], counts: Sequence[int], option: str, path: Path) -> list[str]:
    if len(given) not in counts:
        wanted = "first,second,score" if option == "pairs" else "query,document or query,document,score"
        raise UnsupportedOption(f"{option}={','.join(given)} names {len(given)} columns. Name {wanted}.", param=option)
    for name in given:
        if name not in names:
            raise UnsupportedOption(
                f"{option}: {path} has no column {name!r}.{did_you_mean(name, names)} Its columns are: "
                f"{', '.join(names)}.",
                param=option,
            )
    return list(given)


def _pair_columns(names: Sequence[str], path: Path) -> list[str]:
    found = [next((name for name in known if name in names), None) for known in (FIRST, SECOND, (SCORE,))]
    if None in found:
        raise UnsupportedOption(
            f"{path} has the columns {', '.join(names)}. Pairs have {FIRST[0]}, {SECOND[0]} and {SCORE}; queries have "
            f"{QUERY} and {DOCUMENT} (or {RELEVANT}). Rename the columns, or name them with pairs (--pairs) or "
            "relevance (--relevance)."
        )
    return [name for name in found if name is not None]


def _retrieval(rows: Sequence[Row], columns: Sequence[str], path: Path, corpus: str | Path | None) -> Retrieval:
    """Make the data of a single file. Equal texts are one query or one document, with the id of the first line."""
    query_column, document_column, *score = columns
    queries: dict[str, str] = {}
    documents: dict[str, str] = {}
    titles: dict[str, str] = {}
    relevance: dict[str, dict[str, int]] = {}
    for row in rows:
        line, values = row
        query = queries.setdefault(text_of(row, query_column, path), f"query of line {line}")
        found = values.get(document_column)
        listed = found if isinstance(found, list) else [text_of(row, document_column, path)]
        grade = whole_number(row, score[0], path) if score else 1
        for index, text in enumerate(listed):
            if not isinstance(text, str):
                raise InvalidText(f"{path}, line {line}: the entry {index} of {document_column!r} is not a text.")
            document = documents.setdefault(text, f"document {index} of line {line}")
            if relevance.setdefault(query, {}).setdefault(document, grade) != grade:
                raise InvalidText(
                    f"{path}, line {line}: gives a document the relevance {grade}, and an earlier line gives it "
                    f"{relevance[query][document]} for the same query. Keep one of the two."
                )
    if corpus is not None:
        extra = Path(corpus)
        for row in read_rows(extra, (".txt", *SUFFIXES)):
            document = documents.setdefault(text_of(row, "text", extra), f"{extra}, line {row[0]}")
            if row[1].get("title"):
                titles[document] = text_of(row, "title", extra)
    return Retrieval(
        {name: text for text, name in queries.items()},
        {name: text for text, name in documents.items()},
        relevance,
        titles,
        source=str(path),
    )
