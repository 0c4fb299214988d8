"""Reads a directory in the layout of BEIR: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv."""

from collections.abc import Iterator
from pathlib import Path

from embergem.errors import EmptyInput, InvalidText, UnsupportedOption
from embergem.evaluate.labelled import Retrieval
from embergem.evaluate.labelled_rows import Row, read_rows, text_of, whole_number
from embergem.suggestions import did_you_mean

COLUMNS = ("query-id", "corpus-id", "score")
"""Columns of a file of qrels."""


def read_beir(directory: Path, split: str | None = None) -> Retrieval:
    """Read a directory in the layout of BEIR.

    Args:
        directory: Contains corpus.jsonl and queries.jsonl, whose lines have the fields _id, text and for documents
            perhaps title; and qrels/SPLIT.tsv, with the columns query-id, corpus-id and score.
        split: Name of the file of qrels, without .tsv. None is "test", or the only file.

    Raises:
        EmptyInput: There are no judgements.
        InvalidText: A row cannot be read, has no id, or has the id of another row.
        UnsupportedOption: A file is missing, or a judgement names a query or document that is not there.
    """
    qrels = _qrels_file(directory, split)
    documents: dict[str, str] = {}
    titles: dict[str, str] = {}
    for name, row in _entries(directory / "corpus.jsonl"):
        documents[name] = text_of(row, "text", directory / "corpus.jsonl")
        if row[1].get("title"):
            titles[name] = text_of(row, "title", directory / "corpus.jsonl")
    queries = {
        name: text_of(row, "text", directory / "queries.jsonl") for name, row in _entries(directory / "queries.jsonl")
    }
    relevance: dict[str, dict[str, int]] = {}
    for row in read_rows(qrels, (".tsv",)):
        line, values = row
        for column in COLUMNS:
            if column not in values:
                raise UnsupportedOption(
                    f"{qrels}: has the columns {', '.join(values)}, and no {column!r}.{did_you_mean(column, values)} "
                    f"The first line of qrels names the columns {', '.join(COLUMNS)}, with tabs between them."
                )
        query, document = (text_of(row, column, qrels) for column in COLUMNS[:2])
        for name, kind, known in ((query, "query", queries), (document, "document", documents)):
            if name not in known:
                raise InvalidText(
                    f"{qrels}, line {line}: judges the {kind} {name!r}, which is not in "
                    f"{'queries' if kind == 'query' else 'corpus'}.jsonl. Add it there, or remove the line."
                )
        grade = whole_number(row, COLUMNS[2], qrels)
        if relevance.setdefault(query, {}).setdefault(document, grade) != grade:
            raise InvalidText(
                f"{qrels}, line {line}: gives {document!r} the relevance {grade} for {query!r}, and an earlier line "
                f"gives it {relevance[query][document]}. Keep one of the two."
            )
    if not relevance:
        raise EmptyInput(
            f"{qrels} has no judgements. Its first line names the columns {', '.join(COLUMNS)}, with tabs between "
            "them, and each other line has one judgement."
        )
    return Retrieval(queries, documents, relevance, titles, source=f"{directory} ({qrels.stem})")


def _qrels_file(directory: Path, split: str | None) -> Path:
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (directory / name).is_file():
            raise UnsupportedOption(
                f"{directory} has no {name}. A directory in the layout of BEIR has corpus.jsonl, queries.jsonl and "
                "qrels/test.tsv. Name such a directory, or a file."
            )
    found = {path.stem: path for path in sorted((directory / "qrels").glob("*.tsv"))}
    if not found:
        raise UnsupportedOption(
            f"{directory}/qrels has no files *.tsv. Write the judgements to {directory}/qrels/test.tsv."
        )
    chosen = split or (next(iter(found)) if len(found) == 1 else "test")
    if chosen not in found:
        raise UnsupportedOption(
            f"split={chosen}: {directory}/qrels has no {chosen}.tsv.{did_you_mean(chosen, found)} Choose one of: "
            f"{', '.join(found)}.",
            param="split",
        )
    return found[chosen]


def _entries(path: Path) -> Iterator[tuple[str, Row]]:
    seen: set[str] = set()
    for row in read_rows(path, (".jsonl",)):
        name = text_of(row, "_id", path)
        if name in seen:
            raise InvalidText(
                f"{path}, line {row[0]}: has the _id {name!r} of an earlier line. Give it one of its own."
            )
        seen.add(name)
        yield name, row
